# The CUDA part: whether it is built, and for which architectures. Needs no GPU; sets DDS_EXT_HAS_CUDA.
set(DDS_EXT_HAS_CUDA OFF)
string(TOLOWER "${DDS_EXT_CUDA}" wanted)
if(NOT wanted MATCHES "^(auto|on|off)$")
  message(FATAL_ERROR "DDS_EXT_CUDA=${DDS_EXT_CUDA} is not one of auto, on, off")
endif()
if(wanted STREQUAL "off")
  message(STATUS "dds_ext: without the CUDA part (DDS_EXT_CUDA=off)")
  return()
endif()

# Leaves this file: there is no CUDA part, for this reason. `remedy`: what to do.
macro(dds_without_cuda reason remedy)
  if(wanted STREQUAL "on")
    message(FATAL_ERROR "DDS_EXT_CUDA=on, but ${reason}: ${remedy}")
  endif()
  message(STATUS "dds_ext: without the CUDA part (${reason})")
  return()
endmacro()

include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  dds_without_cuda("there is no nvcc" "put it on PATH, or say where it is by CUDACXX")
endif()

# A launch's parameters take more than 4 KB, which CUDA 12.1 was the first to allow.
execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE version)
if(NOT version MATCHES "release ([0-9.]+)" OR CMAKE_MATCH_1 VERSION_LESS 12.1)
  dds_without_cuda("${CMAKE_CUDA_COMPILER} is not of CUDA 12.1 or newer" "name another nvcc by CUDACXX")
endif()

# What the toolkit can compile for, of what the kernels can run on.
execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --list-gpu-arch OUTPUT_VARIABLE served RESULT_VARIABLE failed)
if(failed)
  dds_without_cuda("${CMAKE_CUDA_COMPILER} --list-gpu-arch failed" "mend it, or name another nvcc by CUDACXX")
endif()
string(REGEX MATCHALL "[0-9]+" served "${served}")
set(archs ${DDS_EXT_CUDA_ARCHS})
if(NOT archs)
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
                  OUTPUT_VARIABLE present RESULT_VARIABLE failed ERROR_QUIET)
  if(NOT failed)
    string(REPLACE "." "" present "${present}")
    string(REGEX MATCHALL "[0-9]+" archs "${present}")
    list(REMOVE_DUPLICATES archs)
  endif()
endif()
if(NOT archs)
  foreach(arch 80 86 89 90 100 120)
    if(arch IN_LIST served)
      list(APPEND archs ${arch})
    endif()
  endforeach()
endif()
set(newest_served 0)
foreach(arch IN LISTS served)
  if(arch GREATER newest_served)
    set(newest_served ${arch})
  endif()
endforeach()
# Machine code for each of them, and portable code of the newest, for the GPUs that come after it.
set(CMAKE_CUDA_ARCHITECTURES "")
set(portable 0)
foreach(arch IN LISTS archs)
  set(newest ${arch})
  if(NOT arch MATCHES "^[0-9]+$" OR arch LESS 80)
    message(STATUS "dds_ext: sm_${arch} is left out, the CUDA part needs sm_80 or newer")
    set(newest 0)
  elseif(arch IN_LIST served)
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${arch}-real)
  elseif(arch GREATER newest_served)
    message(STATUS "dds_ext: sm_${arch} gets portable code of sm_${newest_served}, the newest that this nvcc knows")
    set(newest ${newest_served})
  else()
    message(STATUS "dds_ext: sm_${arch} is left out, this nvcc does not know it")
    set(newest 0)
  endif()
  if(newest GREATER portable)
    set(portable ${newest})
  endif()
endforeach()
if(portable EQUAL 0)
  list(JOIN archs ", " archs)
  dds_without_cuda("none of the architectures ${archs} can be built for" "name others by DDS_EXT_CUDA_ARCHS")
endif()
list(APPEND CMAKE_CUDA_ARCHITECTURES ${portable}-virtual)

enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
list(JOIN CMAKE_CUDA_ARCHITECTURES " " DDS_EXT_BUILT_ARCHS)
message(STATUS "dds_ext: with the CUDA part for ${DDS_EXT_BUILT_ARCHS} (nvcc ${CMAKE_CUDA_COMPILER_VERSION})")

add_library(dds_cuda STATIC
  csrc/cuda/absolute_difference.cu
  csrc/cuda/dot.cu
  csrc/cuda/launch.cu
  csrc/cuda/planning.cpp
  csrc/cuda/roof.cu
  csrc/cuda/signed_sums.cu
  csrc/cuda/squared_difference.cu
  csrc/cuda/tensor_dot.cu
)
target_include_directories(dds_cuda PUBLIC csrc PRIVATE ${CMAKE_CUDA_TOOLKIT_INCLUDE_DIRECTORIES})
target_compile_definitions(dds_cuda PRIVATE DDS_CUDA_ARCHITECTURES="${DDS_EXT_BUILT_ARCHS}")
target_link_libraries(dds_cuda PUBLIC dds)
set(DDS_EXT_HAS_CUDA ON)
