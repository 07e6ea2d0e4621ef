#include "cuda/planning.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "norms/center.h"

namespace dds::cuda {
namespace {

const MetricTraits& traits(const Product& product) { return metric_traits()[static_cast<size_t>(product.metric)]; }

template <class A>
A up(A x, A to) {
    return (x + to - 1) / to;
}

// Hands out addresses from a start on, which may be null to measure.
class Arena {
public:
    explicit Arena(void* start) : at_(static_cast<char*>(start)), start_(at_) {}
    template <class T>
    T* take(int64_t count) {
        T* taken = reinterpret_cast<T*>(at_);
        at_ += up(count * static_cast<int64_t>(sizeof(T)), int64_t{256}) * 256;
        return taken;
    }
    int64_t bytes() const { return at_ - start_; }

private:
    char *at_, *start_;
};

bool is_wide(const RdmParams& p) { return p.wide || p.x.dtype == Dtype::f64; }

Set set_of(const Features& f) {
    const int bytes = f.dtype == Dtype::f64 ? 8 : f.dtype == Dtype::f32 ? 4 : 2;
    const int64_t aligned = std::min(16, 4 * bytes);
    const bool vectors = f.col_stride == 1 && reinterpret_cast<uintptr_t>(f.data) % static_cast<uintptr_t>(aligned) == 0 &&
                         (f.rows < 2 || f.row_stride % 4 == 0);
    return {f.data, f.rows, f.row_stride * bytes, f.col_stride, vectors};
}

ShapeKind shape_of(const RdmParams& p, const Device& device) {
    if (is_wide(p)) return ShapeKind::wide;
    const int64_t pairs = p.y.data ? p.x.rows * p.y.rows : p.x.rows * (p.x.rows - 1) / 2;
    const int64_t least = device.tensor_from / p.x.cols + (device.tensor_from % p.x.cols != 0);
    if (traits(p.products[0]).step == StepKind::dot && pairs >= least) return ShapeKind::tensor;
    return !p.y.data && p.x.rows <= WholeShape::rows ? ShapeKind::whole : ShapeKind::pair;
}

struct Geometry {
    int threads, rows, micro;
    int64_t record;  // bytes of a block's
};

template <class Shape>
constexpr Geometry geometry() {
    return {Shape::threads, Shape::rows, Shape::micro,
            int64_t{Shape::sums} * Shape::threads * int64_t{sizeof(typename Shape::T)}};
}

Geometry geometry(ShapeKind kind) {
    if (kind == ShapeKind::whole) return geometry<WholeShape>();
    if (kind == ShapeKind::tensor) return geometry<TensorShape>();
    return kind == ShapeKind::pair ? geometry<PairShape>() : geometry<DoubleShape>();
}

// Some products of one RdmParams.
struct Job {
    size_t params;
    std::vector<size_t> products;
};

// Whether two jobs can be models of one launch.
bool alike(const RdmParams& p, const Job& a, const RdmParams& q, const Job& b, const Device& device) {
    if (a.products.size() != b.products.size()) return false;
    for (size_t i = 0; i < a.products.size(); ++i) {
        const Product &x = p.products[a.products[i]], &y = q.products[b.products[i]];
        if (x.metric != y.metric || x.centering != y.centering || (x.gamma == 0) != (y.gamma == 0)) return false;
    }
    return shape_of(p, device) == shape_of(q, device) && p.x.dtype == q.x.dtype && !p.y.data == !q.y.data &&
           p.norm == q.norm && p.channels == q.channels && p.channels_last == q.channels_last && p.groups == q.groups &&
           p.condensed == q.condensed && p.check == q.check;
}

// What all models of a launch have in common.
void describe(Plan& plan, const RdmParams& p, const Job& job, const Device& device) {
    Launch& b = plan.launch;
    const MetricTraits& metric = traits(p.products[0]);
    const NormTraits& norm = norm_traits()[static_cast<size_t>(p.norm)];
    const bool dot = metric.step == StepKind::dot, wide = is_wide(p);
    plan.step = metric.step;
    plan.shape = shape_of(p, device);

    b.output_count = static_cast<int>(job.products.size());
    b.raw_output = -1;
    b.unit_rows = false;
    for (int o = 0; o < b.output_count; ++o) {
        const Product& product = p.products[job.products[static_cast<size_t>(o)]];
        b.metric[o] = product.metric;
        b.centering[o] = product.centering;
        b.raw[o] = traits(product).gamma == Gamma::inverse_median && product.gamma == 0;
        if (b.raw[o] && b.raw_output < 0) b.raw_output = o;
        b.unit_rows |= traits(product).rows == Rows::unit;
    }
    b.dtype = p.x.dtype;
    b.set_count = p.y.data ? 2 : 1;
    b.condensed = p.condensed;
    b.check = p.check;
    b.digits = up(wide ? 64 : 32, kDigitBits);

    b.norm = p.norm;
    b.by_channel = norm.over == Over::images_and_space;
    // differences cancel means: where nothing is scaled they need no statistics
    const bool scaled = norm.scale != Center::scale;
    b.columns = b.by_channel || (norm.over == Over::images && (scaled || dot));
    b.groups = norm.over == Over::group ? norm.groups(p.channels, p.groups) : 0;
    b.channels = p.channels;
    b.channels_last = p.channels_last && (b.groups > 1 || b.by_channel);
    b.centered_rows = metric.rows == Rows::centered_unit;
    b.near = !dot && (b.columns || b.groups > 0);
    const bool sized = metric.step == StepKind::squared_difference || plan.shape == ShapeKind::tensor || b.near;
    b.row_pass = b.centered_rows || b.unit_rows || sized;
}

void add_model(Plan& plan, const RdmParams& p, const Job& job) {
    Launch& b = plan.launch;
    Model& m = b.models[b.model_count++];
    m = Model{};
    const Geometry shape = geometry(plan.shape);
    m.sets[0] = set_of(p.x);
    m.sets[1] = set_of(p.y);
    m.d = p.x.cols;
    for (int set = 0; set < b.set_count; ++set) {
        const int64_t n = m.sets[set].rows, groups = up(n, int64_t{shape.rows});
        if (n > std::numeric_limits<int>::max()) throw std::length_error("there are more than 2^31 - 1 images");
        m.groups[set] = static_cast<int>(groups);
        m.group_rows[set] = static_cast<int>(up(up(n, groups), int64_t{shape.micro}) * shape.micro);
    }
    m.slabs = up(m.d, int64_t{kSlab});
    // a slab costs what the warps that have pairs take
    const int64_t rows = m.group_rows[0], cols = m.group_rows[b.set_count - 1];
    if (plan.shape == ShapeKind::tensor) {
        const int64_t down = up(rows, int64_t{TensorShape::warp_rows}), across = up(cols, int64_t{TensorShape::warp_cols});
        m.cross_cost = down * across;
        for (int64_t i = 0; i < down; ++i)  // the columns up to the diagonal
            m.own_cost += (i + 1) * TensorShape::warp_rows > TensorShape::warp_cols ? across : 1;
    } else {
        const int64_t across_i = rows / shape.micro, across_j = cols / shape.micro;
        m.cross_cost = up(across_i * across_j, int64_t{32});
        m.own_cost = up(across_i * (across_i + 1) / 2, int64_t{32});
    }
    const int64_t groups = m.groups[0];
    m.cross_items = b.set_count == 2 ? groups * m.groups[1] : groups * (groups - 1) / 2;
    m.own_items = b.set_count == 2 ? 0 : groups;
    m.cost_begin = b.cost;
    b.cost += m.slabs * (m.cross_items * m.cross_cost + m.own_items * m.own_cost);
    for (int o = 0; o < b.output_count; ++o) {
        const Product& product = p.products[job.products[static_cast<size_t>(o)]];
        m.out[o] = product.out;
        m.gamma[o] = product.gamma;
        if (traits(product).gamma == Gamma::inverse_features && product.gamma == 0)
            m.gamma[o] = 1 / static_cast<double>(m.d);
    }
    plan.made.push_back({job.params, job.products});
}

// Cuts the rows of all models into segments, so that every warp has one where that is possible.
void choose_segments(Launch& b, int64_t warps) {
    int64_t units = 0;
    for (int i = 0; i < b.model_count; ++i)
        for (const Set& set : b.models[i].sets) units += up(set.rows, int64_t{kRowsOfUnit});
    for (int i = 0; i < b.model_count; ++i) {
        Model& m = b.models[i];
        const int64_t features = up(up(m.d, std::max<int64_t>(1, warps / units)), int64_t{128}) * 128;
        m.segment = m.d <= kNotCut ? kNotCut : static_cast<int>(std::clamp<int64_t>(features, kLeastSegment, kMostSegment));
    }
}

}  // namespace

void place(Plan& plan, void* workspace) {
    Launch& b = plan.launch;
    Arena arena(workspace);
    const auto models = static_cast<int64_t>(b.model_count);
    // what is reported, then what else starts as zeros, then the rest
    auto* findings = arena.take<Findings>(models);
    for (int64_t i = 0; i < models; ++i) {
        Model& m = b.models[i];
        m.findings = findings + i;
        for (int set = 0; set < b.set_count && b.check; ++set) {
            m.nonfinite[set] = arena.take<unsigned char>(m.sets[set].rows);
            if (b.centered_rows) m.constant[set] = arena.take<unsigned char>(m.sets[set].rows);
        }
    }
    plan.reported = arena.bytes();
    b.barrier = arena.take<unsigned>(1);
    for (int64_t i = 0; i < models && b.raw_output >= 0; ++i)
        b.models[i].histogram = arena.take<unsigned long long>(b.digits * kBins);
    plan.zeroed = arena.bytes();
    const int number = plan.shape == ShapeKind::wide ? 8 : 4, affine = 4 * number;
    for (int64_t i = 0; i < models; ++i) {
        Model& m = b.models[i];
        if (b.columns) {
            m.column_mean = arena.take<double>(m.d);
            m.column_scale = arena.take<double>(m.d);
            m.columns = arena.take<char>(3 * m.slabs * kSlab * number);
        }
        if (b.groups > 1) m.group_of = arena.take<int>(m.slabs * kSlab);
        for (int set = 0; set < b.set_count; ++set) {
            const int64_t rows = m.sets[set].rows;
            if (b.groups > 0) {
                m.group_mean[set] = arena.take<double>(rows * b.groups);
                m.group_scale[set] = arena.take<double>(rows * b.groups);
                m.group_terms[set] = arena.take<char>(rows * b.groups * affine);
            }
            if (b.row_pass && m.d > m.segment) m.row_parts[set] = arena.take<double>(rows * up(m.d, int64_t{m.segment}) * 2);
            if (b.centered_rows) {
                m.row_mean[set] = arena.take<double>(rows);
                m.row_terms[set] = arena.take<char>(rows * affine);
            }
            if (b.centered_rows || b.unit_rows) m.row_scale[set] = arena.take<double>(rows);
            if (b.row_pass && !b.centered_rows) m.row_size[set] = arena.take<double>(rows);
            if (plan.shape == ShapeKind::tensor) m.row_power[set] = arena.take<float>(rows);
        }
        for (int o = 0; o < b.output_count; ++o)
            if (b.centering[o] != Centering::none) m.row_sum[o] = arena.take<double>(m.sets[0].rows);
    }
    if (b.cost > 0) b.records = arena.take<char>(plan.blocks * int64_t{kRecordsOfBlock} * geometry(plan.shape).record);
    plan.bytes = arena.bytes();
}

std::vector<Plan> plan(const std::vector<RdmParams>& params, const Device& device) {
    std::vector<Plan> plans;
    for (size_t i = 0; i < params.size(); ++i) {
        const RdmParams& p = params[i];
        for (size_t first = 0; first < p.products.size(); first += kMaxOutputs) {
            Job job{i, {}};
            for (size_t k = first; k < std::min<size_t>(p.products.size(), first + kMaxOutputs); ++k)
                job.products.push_back(k);
            const auto joined = std::find_if(plans.begin(), plans.end(), [&](const Plan& plan) {
                const Plan::Made& made = plan.made[0];
                return plan.launch.model_count < kMaxModels &&
                       alike(params[made.params], {made.params, made.products}, p, job, device);
            });
            Plan& to = joined == plans.end() ? plans.emplace_back() : *joined;
            if (to.made.empty()) describe(to, p, job, device);
            add_model(to, p, job);
        }
    }
    for (Plan& plan : plans) {
        // no more blocks than slabs of items
        plan.blocks = static_cast<int>(std::min<int64_t>(device.blocks[static_cast<int>(plan.shape)], plan.launch.cost));
        choose_segments(plan.launch, int64_t{plan.blocks} * geometry(plan.shape).threads / 32);
        place(plan, nullptr);
    }
    return plans;
}

std::vector<Plan> plan_centering(void* k, int64_t count, int64_t n, Dtype dtype, Centering mode, const Device& device) {
    const int64_t bytes = dtype == Dtype::f64 ? 8 : 4;
    std::vector<Plan> plans;
    for (int64_t i = 0; i < count; ++i) {
        if (i % kMaxModels == 0) {
            Plan& plan = plans.emplace_back();
            plan.launch.output_count = 1;
            plan.launch.centering[0] = mode;
            plan.launch.set_count = 1;
            plan.launch.raw_output = -1;
            plan.step = StepKind::dot;  // none is taken
            plan.shape = dtype == Dtype::f64 ? ShapeKind::wide : ShapeKind::pair;
            plan.blocks = device.blocks[static_cast<int>(plan.shape)];
        }
        Launch& b = plans.back().launch;
        Model& m = b.models[b.model_count++];
        m.sets[0].rows = n;
        m.out[0] = static_cast<char*>(k) + i * n * n * bytes;
    }
    for (Plan& plan : plans) place(plan, nullptr);
    return plans;
}

void report(const Plan& plan, const char* reported, std::vector<RdmStatus>& statuses, std::vector<bool>& in_float64) {
    const Launch& b = plan.launch;
    auto local = [&](const void* device) {
        return reported + (static_cast<const char*>(device) - reinterpret_cast<const char*>(b.models[0].findings));
    };
    for (int i = 0; i < b.model_count; ++i) {
        const Model& m = b.models[i];
        const Plan::Made& made = plan.made[static_cast<size_t>(i)];
        RdmStatus& status = statuses[made.params];
        Findings found;
        std::memcpy(&found, local(m.findings), sizeof found);
        status.gammas.resize(std::max(status.gammas.size(), made.products.back() + 1));
        for (size_t o = 0; o < made.products.size(); ++o)
            status.gammas[made.products[o]] = b.raw[o] ? found.gamma : m.gamma[o];
        if (status.code != RdmStatus::ok || !b.check) continue;
        auto fail = [&](RdmStatus::Code code, unsigned char* const(&flags)[2]) {
            for (int set = 0; set < b.set_count && flags[set]; ++set) {
                const char* rows = local(flags[set]);
                for (int64_t row = 0; row < m.sets[set].rows; ++row)
                    if (rows[row]) status.rows.push_back(row);
                if (status.rows.empty()) continue;
                status.code = code;
                status.in_y = set == 1;
                return true;
            }
            return false;
        };
        if (fail(RdmStatus::nonfinite_input, m.nonfinite) || fail(RdmStatus::constant_row, m.constant)) continue;
        if (found.suspicious || found.out_of_range) {
            if (plan.shape == ShapeKind::wide) status.code = RdmStatus::overflow;
            else in_float64[made.params] = true;
        } else if (found.zero_median) {
            status.code = RdmStatus::zero_median;
            status.product = made.products[static_cast<size_t>(b.raw_output)];
        }
    }
}

}  // namespace dds::cuda
