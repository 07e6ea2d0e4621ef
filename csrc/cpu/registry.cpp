#include "cpu/registry.h"

#include <type_traits>

#include "dds/dds.h"
#include "metrics/registry.h"
#include "norms/registry.h"

namespace dds {
namespace {

template <class Step>
constexpr StepKind step_kind() {
    if (std::is_same_v<Step, Dot>) return StepKind::dot;
    return std::is_same_v<Step, SquaredDifference> ? StepKind::squared_difference : StepKind::absolute_difference;
}

template <class Metric>
MetricTraits traits_of_metric() {
    return {Metric::name, step_kind<typename Metric::Step>(), Metric::gamma, Metric::rows, Metric::Step::near};
}

template <class Norm>
NormTraits traits_of_norm() {
    return {Norm::name, Norm::over, Norm::needs_channels, Norm::scale, Norm::groups};
}

}  // namespace

const std::vector<MetricTraits>& metric_traits() {
#define DDS_ENTRY(Metric) traits_of_metric<Metric>(),
    static const std::vector<MetricTraits> all{DDS_METRICS(DDS_ENTRY)};
#undef DDS_ENTRY
    return all;
}

const std::vector<NormTraits>& norm_traits() {
#define DDS_ENTRY(Norm) traits_of_norm<Norm>(),
    static const std::vector<NormTraits> all{DDS_NORMS(DDS_ENTRY)};
#undef DDS_ENTRY
    return all;
}

const std::vector<MetricInfo>& metrics() {
    static const std::vector<MetricInfo> all = [] {
        std::vector<MetricInfo> infos;
        for (const MetricTraits& m : metric_traits()) {
            const int gamma = static_cast<int>(m.gamma), step = static_cast<int>(m.step), rows = static_cast<int>(m.rows);
            infos.push_back({m.name, gamma, m.family(), step, rows});
        }
        return infos;
    }();
    return all;
}

const std::vector<NormInfo>& norms() {
    static const std::vector<NormInfo> all = [] {
        std::vector<NormInfo> infos;
        for (const NormTraits& n : norm_traits()) {
            const bool scaled = n.scale(1) != n.scale(4);
            const double largest = n.scale(0);  // 1 / sqrt(epsilon), or 0 where there is none
            const double epsilon = scaled && largest > 0 ? 1 / (largest * largest) : 0;
            infos.push_back({n.name, n.needs_channels, static_cast<int>(n.over), scaled, epsilon, n.groups});
        }
        return infos;
    }();
    return all;
}

}  // namespace dds
