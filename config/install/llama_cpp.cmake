# Read by CMake at the end of llama-cpp-python's project() call (CMAKE_PROJECT_llama_cpp_INCLUDE).
# Its CMakeLists forces the cache entries of both variables below; a normal variable set here still wins
# (policies CMP0077 and CMP0126), so what is built stays unmodified and merely less of it is built.

# llama.cpp's library of command-line parsing and chat helpers: 57 of 140 build steps, and Python never loads it.
set(LLAMA_BUILD_COMMON OFF)

# On macOS the Metal backend is always on otherwise.
if(LILLIPUT_BACKEND STREQUAL "cpu")
    set(GGML_METAL OFF)
endif()
