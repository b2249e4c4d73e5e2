// Products of a stored matrix and some tokens with ggml, on one thread, for tools/arm/count.py.
//
// Arguments: storage type, number of tokens, number of products. The matrix lies in the buffer that ggml's CPU backend
// prefers for the type, so that it is repacked where llama.cpp repacks it.

#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

int main(int argc, char ** argv) {
    if (argc != 4) {
        return 2;
    }
    const int64_t rows = 512, columns = 1024;
    const int tokens = atoi(argv[2]), products = atoi(argv[3]);
    ggml_type type = GGML_TYPE_COUNT;
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        const char * name = ggml_type_name(ggml_type(i));
        if (name && !strcasecmp(name, argv[1])) {
            type = ggml_type(i);
        }
    }
    if (type == GGML_TYPE_COUNT) {
        return 2;
    }
    ggml_backend_t backend = ggml_backend_cpu_init();
    ggml_backend_cpu_set_n_threads(backend, 1);
    // The first buffer type of the device that takes this product of this type.
    ggml_backend_dev_t device = ggml_backend_get_device(backend);
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(device);
    auto extra = (ggml_backend_dev_get_extra_bufts_t)ggml_backend_reg_get_proc_address(reg, "ggml_backend_dev_get_extra_bufts");
    ggml_backend_buffer_type_t buffers = ggml_backend_cpu_buffer_type();
    ggml_init_params of_weights = { ggml_tensor_overhead() * 4, nullptr, true };
    ggml_context * weights = ggml_init(of_weights);
    ggml_tensor * w = ggml_new_tensor_2d(weights, type, columns, rows);
    ggml_init_params of_work = { ggml_tensor_overhead() * 16 + ggml_graph_overhead(), nullptr, true };
    ggml_context * work = ggml_init(of_work);
    ggml_tensor * x = ggml_new_tensor_2d(work, GGML_TYPE_F32, columns, tokens);
    ggml_tensor * out = ggml_mul_mat(work, w, x);
    for (ggml_backend_buffer_type_t * at = extra ? extra(device) : nullptr; at && *at; at++) {
        ggml_backend_buffer_t small = ggml_backend_buft_alloc_buffer(*at, 0);
        w->buffer = small;
        const bool takes = ggml_backend_dev_supports_op(device, out);
        w->buffer = nullptr;
        ggml_backend_buffer_free(small);
        if (takes) {
            buffers = *at;
            break;
        }
    }
    ggml_backend_buffer_t stored = ggml_backend_alloc_ctx_tensors_from_buft(weights, buffers);
    if (!stored) {
        return 1;
    }
    std::vector<char> zeros(ggml_nbytes(w));
    ggml_backend_tensor_set(w, zeros.data(), 0, zeros.size());
    ggml_cgraph * graph = ggml_new_graph(work);
    ggml_build_forward_expand(graph, out);
    ggml_backend_alloc_ctx_tensors(work, backend);
    std::vector<float> values(columns * tokens);
    for (size_t i = 0; i < values.size(); i++) {
        values[i] = float(i * 37 % 251) / 60.0f - 2.0f;
    }
    ggml_backend_tensor_set(x, values.data(), 0, ggml_nbytes(x));
    for (int i = 0; i < products; i++) {
        ggml_backend_graph_compute(backend, graph);
    }
    printf("%s\n", ggml_backend_buft_name(buffers));
    return 0;
}
