// dds_ext._cuda: plans and their launches for Python, which holds the memory. Parameters are those of dds_ext._cpu.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "cuda/launch.h"
#include "cuda/signed_sums.h"

namespace py = pybind11;

#ifndef DDS_CUDA_MODULE
#define DDS_CUDA_MODULE _cuda
#endif

PYBIND11_MODULE(DDS_CUDA_MODULE, m) {
    m.doc() = "The CUDA kernels of dds_ext.";
    py::module_::import("dds_ext._cpu");  // registers the types of the parameters

    py::class_<dds::cuda::Plan>(m, "Plan", py::module_local())  // the tests load an emulated module beside the real one
        .def_readonly("bytes", &dds::cuda::Plan::bytes)
        .def_readonly("reported", &dds::cuda::Plan::reported)
        .def_property_readonly("tensor_cores",
                               [](const dds::cuda::Plan& plan) { return plan.shape == dds::cuda::ShapeKind::tensor; })
        .def("run", [](dds::cuda::Plan& plan, uintptr_t workspace, uintptr_t stream, bool cooperative) {
            py::gil_scoped_release release;
            dds::cuda::place(plan, reinterpret_cast<void*>(workspace));
            dds::cuda::run(plan, reinterpret_cast<void*>(stream), cooperative);
        });

    m.def("devices", [] {
        py::list all;
        for (const dds::cuda::DeviceInfo& d : dds::cuda::devices())
            all.append(py::make_tuple(d.name, d.major, d.minor, d.multiprocessors, d.cooperative));
        return all;
    });
    m.def("architectures", &dds::cuda::architectures);
    // `tensor_cores`: whether matrices of products are left to them, whatever their size; by default the device decides
    m.def(
        "plan",
        [](const std::vector<dds::RdmParams>& params, std::optional<bool> tensor_cores) {
            dds::cuda::Device device = dds::cuda::device();
            if (tensor_cores) device.tensor_from = *tensor_cores ? 0 : dds::cuda::Device::kNever;
            return dds::cuda::plan(params, device);
        },
        py::arg("params"), py::arg("tensor_cores") = py::none());
    m.def("plan_centering", [](uintptr_t k, int64_t count, int64_t n, int dtype, int mode) {
        return dds::cuda::plan_centering(reinterpret_cast<void*>(k), count, n, static_cast<dds::Dtype>(dtype),
                                         static_cast<dds::Centering>(mode), dds::cuda::device());
    });
    m.def("signed_sums", [](uintptr_t x, uintptr_t y, uintptr_t w, uintptr_t out, int64_t n, int64_t m, int64_t d, int dtype,
                            uintptr_t stream) {
        const auto at = [](uintptr_t address) { return reinterpret_cast<void*>(address); };
        const dds::cuda::SignedSums sums{at(x), at(y), at(w), at(out), n, m, d};
        py::gil_scoped_release release;
        dds::cuda::run_signed_sums(sums, static_cast<dds::Dtype>(dtype), at(stream));
    });
    m.def("roofs", &dds::cuda::roofs);
    m.def("start_roof", [](size_t index, int64_t steps, int blocks, uintptr_t sink, uintptr_t stream) {
        if (index >= dds::cuda::roofs().size()) throw std::out_of_range("there are fewer roofs");
        return dds::cuda::start_roof(static_cast<int>(index), steps, blocks, reinterpret_cast<float*>(sink),
                                     reinterpret_cast<void*>(stream));
    });
    // statuses of the `count` params that the plans were made of, and which have to be computed again in float64
    m.def("report", [](const std::vector<dds::cuda::Plan>& plans, const std::vector<uintptr_t>& reported, size_t count) {
        std::vector<dds::RdmStatus> statuses(count);
        std::vector<bool> in_float64(count);
        for (size_t i = 0; i < plans.size(); ++i)
            dds::cuda::report(plans[i], reinterpret_cast<const char*>(reported[i]), statuses, in_float64);
        return py::make_tuple(statuses, in_float64);
    });
}
