// dds_ext._cpu: the C++ interface for Python. Arrays come as addresses, shapes and strides; the Python side keeps them alive
// and has checked their sizes.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "dds/dds.h"

namespace py = pybind11;

namespace {

void* address(uintptr_t a) { return reinterpret_cast<void*>(a); }

const char* c_str(const std::optional<std::string>& isa) { return isa ? isa->c_str() : nullptr; }

}  // namespace

PYBIND11_MODULE(_cpu, m) {
    m.doc() = "The CPU kernels of dds_ext.";

    py::class_<dds::Features>(m, "Features")
        .def(py::init([](uintptr_t data, int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride, int dtype) {
            return dds::Features{address(data), rows, cols, row_stride, col_stride, static_cast<dds::Dtype>(dtype)};
        }));

    py::class_<dds::Product>(m, "Product").def(py::init([](int metric, int centering, double gamma, uintptr_t out) {
        return dds::Product{metric, static_cast<dds::Centering>(centering), gamma, address(out)};
    }));

    py::class_<dds::RdmParams>(m, "RdmParams")
        .def(py::init([](const dds::Features& x, const dds::Features* y, int norm, std::vector<dds::Product> products,
                         int64_t channels, bool channels_last, int64_t groups, bool fast, bool wide, bool condensed,
                         bool check) {
                 return dds::RdmParams{x,        y ? *y : dds::Features{},
                                       norm,     std::move(products),
                                       channels, channels_last,
                                       groups,   fast,
                                       wide,     condensed,
                                       check};
             }),
             py::kw_only(), py::arg("x"), py::arg("y").none(true), py::arg("norm"), py::arg("products"), py::arg("channels"),
             py::arg("channels_last"), py::arg("groups"), py::arg("fast"), py::arg("wide"), py::arg("condensed"),
             py::arg("check"));

    py::enum_<dds::RdmStatus::Code>(m, "Code")
        .value("ok", dds::RdmStatus::ok)
        .value("nonfinite_input", dds::RdmStatus::nonfinite_input)
        .value("constant_row", dds::RdmStatus::constant_row)
        .value("overflow", dds::RdmStatus::overflow)
        .value("zero_median", dds::RdmStatus::zero_median);

    py::class_<dds::RdmStatus>(m, "RdmStatus")
        .def_readonly("code", &dds::RdmStatus::code)
        .def_readonly("in_y", &dds::RdmStatus::in_y)
        .def_readonly("rows", &dds::RdmStatus::rows)
        .def_readonly("product", &dds::RdmStatus::product)
        .def_readonly("gammas", &dds::RdmStatus::gammas)
        .def_readonly("fast", &dds::RdmStatus::fast);

    m.def("metrics", [] {
        py::list all;
        for (const dds::MetricInfo& metric : dds::metrics())
            all.append(py::make_tuple(metric.name, metric.gamma, metric.family, metric.step, metric.rows));
        return all;
    });
    m.def("norms", [] {
        py::list all;
        for (const dds::NormInfo& norm : dds::norms())
            all.append(py::make_tuple(norm.name, norm.needs_channels, norm.over, norm.scaled, norm.epsilon,
                                      py::cpp_function(norm.groups)));
        return all;
    });
    m.def("available_isas", &dds::available_isas);
    m.def(
        "rdm",
        [](const std::vector<dds::RdmParams>& params, int threads, const std::optional<std::string>& isa) {
            py::gil_scoped_release release;
            return dds::rdm(params, threads, c_str(isa));
        },
        py::arg("params"), py::arg("threads"), py::arg("isa"));
    m.def("center", [](uintptr_t k, int64_t count, int64_t n, int dtype, int mode, int threads,
                       const std::optional<std::string>& isa) {
        py::gil_scoped_release release;
        dds::center(address(k), count, n, static_cast<dds::Dtype>(dtype), static_cast<dds::Centering>(mode), threads,
                    c_str(isa));
    });
    m.def("condense", [](uintptr_t k, int64_t count, int64_t n, int dtype, uintptr_t out, int threads) {
        py::gil_scoped_release release;
        dds::condense(address(k), count, n, static_cast<dds::Dtype>(dtype), address(out), threads);
    });
    m.def("rank", [](uintptr_t values, int64_t count, int64_t length, int dtype, uintptr_t ranks, int threads) {
        py::gil_scoped_release release;
        dds::rank(address(values), count, length, static_cast<dds::Dtype>(dtype), static_cast<double*>(address(ranks)),
                  threads);
    });
    m.def("kendall", [](uintptr_t a, int64_t s, uintptr_t b, int64_t t, int64_t length, uintptr_t out, int threads) {
        py::gil_scoped_release release;
        dds::kendall(static_cast<double*>(address(a)), s, static_cast<double*>(address(b)), t, length,
                     static_cast<double*>(address(out)), threads);
    });
    m.def("signed_sums", [](uintptr_t x, int64_t n, uintptr_t y, int64_t m, int64_t d, uintptr_t w, int dtype, uintptr_t out,
                            int threads, const std::optional<std::string>& isa) {
        py::gil_scoped_release release;
        dds::signed_sums(address(x), n, address(y), m, d, address(w), static_cast<dds::Dtype>(dtype), address(out), threads,
                         c_str(isa));
    });
    m.def("roof", [](int metric, int dtype, bool fast, const std::optional<std::string>& isa) {
        py::gil_scoped_release release;
        return dds::roof(metric, static_cast<dds::Dtype>(dtype), fast, c_str(isa));
    });
}
