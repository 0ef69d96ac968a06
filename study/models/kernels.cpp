// The kernels of study/models/cpu_kernels.py for float32 and bfloat16, on one thread.
//
// Compiled for the machine it runs on by study/models/build_kernels.py. Arrays are dense, channels lie
// innermost: x [n, k] with n = beats * steps. Sums are float32. Where a stage has few channels,
// several rows are taken as one of that many channels, so that a row fills vector registers.
//
// All loops over channels are independent from channel to channel: what the compiler vectorises
// changes no number.

#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using bf16 = uint16_t;  // A struct around it would keep loops from being vectorised.

inline float load(float x) { return x; }

inline float load(bf16 x) {
    uint32_t bits = uint32_t(x) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline void store(float* to, float x) { *to = x; }

inline void store(bf16* to, float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    // To the nearest, ties to even; an infinity stays one, and so does the NaN that processors
    // make.
    *to = bf16((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// tanh(x) within a few units in the last place: a rational function of the kind that Eigen has
// (Eigen 3.4, `generic_fast_tanh_float`), which needs no exponential. A NaN stays one.
inline float hyperbolic_tangent(float x) {
    float v = x > 7.90531110763549805f ? 7.90531110763549805f
              : x < -7.90531110763549805f ? -7.90531110763549805f
                                          : x;
    float z = v * v;
    float p = -2.76076847742355e-16f;
    p = p * z + 2.00018790482477e-13f;
    p = p * z - 8.60467152213735e-11f;
    p = p * z + 5.12229709037114e-08f;
    p = p * z + 1.48572235717979e-05f;
    p = p * z + 6.37261928875436e-04f;
    p = p * z + 4.89352455891786e-03f;
    float q = 1.19825839466702e-06f;
    q = q * z + 1.18534705686654e-04f;
    q = q * z + 2.26843463243900e-03f;
    q = q * z + 4.89352518554385e-03f;
    return v * p / q;
}

constexpr int64_t FULL = 64;  // Channels from which a row keeps a core busy.

// Rows of k channels taken as fewer of `width` channels; `steps` of a beat are kept together.
struct Shape {
    int64_t beats, steps, channels, width;

    Shape(int64_t beats_, int64_t steps_, int64_t channels_)
        : beats(beats_), steps(steps_), channels(channels_), width(channels_) {
        while (width < FULL && steps % 2 == 0) {
            width *= 2;
            steps /= 2;
        }
    }

    int64_t rows() const { return beats * steps; }

    // One value a channel, repeated to the width.
    std::vector<float> repeated(const float* values) const {
        std::vector<float> all(width);
        for (int64_t i = 0; i < width; ++i) all[i] = values[i % channels];
        return all;
    }

    // The sum of a row's repetitions of each channel.
    void folded(const std::vector<float>& all, float* values) const {
        for (int64_t c = 0; c < channels; ++c) values[c] = 0.0f;
        for (int64_t i = 0; i < width; ++i) values[i % channels] += all[i];
    }
};

// Sums are taken a block of rows at a time, so that they do not lose what is small beside them.
constexpr int64_t BLOCK = 64;

template <class Row>
void sum_rows(const Shape& s, std::vector<float>& first, std::vector<float>& second, Row row) {
    std::vector<float> a(s.width), b(s.width);
    for (int64_t begin = 0; begin < s.rows(); begin += BLOCK) {
        int64_t end = begin + BLOCK < s.rows() ? begin + BLOCK : s.rows();
        std::memset(a.data(), 0, s.width * sizeof(float));
        std::memset(b.data(), 0, s.width * sizeof(float));
        for (int64_t r = begin; r < end; ++r) row(r, a.data(), b.data());
        for (int64_t i = 0; i < s.width; ++i) {
            first[i] += a[i];
            second[i] += b[i];
        }
    }
}

template <class T>
void sums_around(int64_t beats, int64_t steps, int64_t k, const T* x, const float* origin,
                 float* sum, float* sum_of_squares) {
    Shape s(beats, steps, k);
    auto around = s.repeated(origin);
    std::vector<float> first(s.width), second(s.width);
    const float* o = around.data();
    int64_t width = s.width;
    sum_rows(s, first, second, [=](int64_t r, float* __restrict a, float* __restrict b) {
        const T* __restrict row = x + r * width;
        for (int64_t i = 0; i < width; ++i) {
            float d = load(row[i]) - o[i];
            a[i] += d;
            b[i] += d * d;
        }
    });
    s.folded(first, sum);
    s.folded(second, sum_of_squares);
}

template <class T>
void affine_relu(int64_t beats, int64_t steps, int64_t k, const T* x, const float* scale,
                 const float* shift, T* out) {
    Shape s(beats, steps, k);
    auto scales = s.repeated(scale), shifts = s.repeated(shift);
    const float *__restrict m = scales.data(), *__restrict c = shifts.data();
    for (int64_t r = 0; r < s.rows(); ++r) {
        const T* __restrict row = x + r * s.width;
        T* __restrict to = out + r * s.width;
        for (int64_t i = 0; i < s.width; ++i) {
            float y = load(row[i]) * m[i] + c[i];
            store(to + i, y < 0.0f ? 0.0f : y);
        }
    }
}

// The part of a gradient that ReLU lets through. Both values are arguments, so that both are read
// and the loop has no branch.
inline float passed(float out, float grad) { return out > 0.0f ? grad : 0.0f; }

template <class T>
void relu_backward_sums(int64_t beats, int64_t steps, int64_t k, const T* grad, const T* out,
                        const T* x, const float* mean, const float* inverse_sd, float* d_weight,
                        float* d_bias) {
    Shape s(beats, steps, k);
    auto means = s.repeated(mean), inverses = s.repeated(inverse_sd);
    std::vector<float> first(s.width), second(s.width);
    const float *m = means.data(), *v = inverses.data();
    int64_t width = s.width;
    sum_rows(s, first, second, [=](int64_t r, float* __restrict a, float* __restrict b) {
        const T *__restrict g_row = grad + r * width, *__restrict out_row = out + r * width,
                *__restrict x_row = x + r * width;
        for (int64_t i = 0; i < width; ++i) {
            float g = passed(load(out_row[i]), load(g_row[i]));
            a[i] += g * ((load(x_row[i]) - m[i]) * v[i]);
            b[i] += g;
        }
    });
    s.folded(first, d_weight);
    s.folded(second, d_bias);
}

// d_x = p * g - q - r * (x - mean), with g the gradient of what was normalised.
template <class T>
void relu_backward(int64_t beats, int64_t steps, int64_t k, const T* grad, const T* out,
                   const T* x, const float* mean, const float* p, const float* q, const float* r,
                   T* d_x) {
    Shape s(beats, steps, k);
    auto means = s.repeated(mean), ps = s.repeated(p), qs = s.repeated(q), rs = s.repeated(r);
    const float *__restrict m = means.data(), *__restrict u = ps.data(), *__restrict v = qs.data(),
                *__restrict w = rs.data();
    for (int64_t n = 0; n < s.rows(); ++n) {
        const T *__restrict g_row = grad + n * s.width, *__restrict out_row = out + n * s.width,
                *__restrict x_row = x + n * s.width;
        T* __restrict to = d_x + n * s.width;
        for (int64_t i = 0; i < s.width; ++i) {
            float g = passed(load(out_row[i]), load(g_row[i]));
            store(to + i, u[i] * g - v[i] - w[i] * (load(x_row[i]) - m[i]));
        }
    }
}

// tanh(x * scale + shift) where `active` is given, and its mean over time [beats, k].
template <class T>
void affine_tanh(int64_t beats, int64_t steps, int64_t k, const T* x, const float* scale,
                 const float* shift, T* active, float* mean) {
    Shape s(beats, steps, k);
    auto scales = s.repeated(scale), shifts = s.repeated(shift);
    const float *__restrict m = scales.data(), *__restrict c = shifts.data();
    std::vector<float> sums(s.width), values(s.width);
    float *__restrict sum = sums.data(), *__restrict value = values.data();
    for (int64_t beat = 0; beat < beats; ++beat) {
        std::memset(sum, 0, s.width * sizeof(float));
        for (int64_t step = 0; step < s.steps; ++step) {
            int64_t at = (beat * s.steps + step) * s.width;
            const T* __restrict row = x + at;
            for (int64_t i = 0; i < s.width; ++i) {
                value[i] = hyperbolic_tangent(load(row[i]) * m[i] + c[i]);
                sum[i] += value[i];
            }
            if (!active) continue;
            T* __restrict to = active + at;
            for (int64_t i = 0; i < s.width; ++i) store(to + i, value[i]);
        }
        s.folded(sums, mean + beat * k);
        for (int64_t i = 0; i < k; ++i) mean[beat * k + i] /= float(steps);
    }
}

// x * factor, with a factor [beats, k] for all steps of a beat.
template <class T>
void scaled(int64_t beats, int64_t steps, int64_t k, const T* x, const float* factor, T* out) {
    Shape s(beats, steps, k);
    for (int64_t beat = 0; beat < beats; ++beat) {
        auto factors = s.repeated(factor + beat * k);
        const float* __restrict f = factors.data();
        for (int64_t step = 0; step < s.steps; ++step) {
            int64_t at = (beat * s.steps + step) * s.width;
            const T* __restrict row = x + at;
            T* __restrict to = out + at;
            for (int64_t i = 0; i < s.width; ++i) store(to + i, load(row[i]) * f[i]);
        }
    }
}

// The sum over time of a * b, [beats, k].
template <class T>
void product_over_time(int64_t beats, int64_t steps, int64_t k, const T* a, const T* b,
                       float* sum) {
    Shape s(beats, steps, k);
    std::vector<float> sums(s.width);
    float* __restrict to = sums.data();
    for (int64_t beat = 0; beat < beats; ++beat) {
        std::memset(to, 0, s.width * sizeof(float));
        for (int64_t step = 0; step < s.steps; ++step) {
            int64_t at = (beat * s.steps + step) * s.width;
            const T *__restrict left = a + at, *__restrict right = b + at;
            for (int64_t i = 0; i < s.width; ++i) to[i] += load(left[i]) * load(right[i]);
        }
        s.folded(sums, sum + beat * k);
    }
}

// The gradient of what was normalised: (grad * factor + constant) * (1 - active^2), or
// constant * (1 - active^2) without grad; factor and constant are [beats, k].
template <class T, bool with_grad>
struct TanhGradient {
    const T *grad, *active;
    const float *__restrict factor, *__restrict constant;

    float operator()(int64_t at, int64_t i) const {
        float a = load(active[at + i]);
        float d = constant[i];
        if (with_grad) d += load(grad[at + i]) * factor[i];
        return d * (1.0f - a * a);
    }
};

template <class T, bool with_grad>
void tanh_backward_sums(int64_t beats, int64_t steps, int64_t k, const T* grad,
                        const float* factor, const float* constant, const T* active, const T* x,
                        const float* mean, const float* inverse_sd, float* d_weight,
                        float* d_bias) {
    Shape s(beats, steps, k);
    auto means = s.repeated(mean), inverses = s.repeated(inverse_sd);
    const float *__restrict m = means.data(), *__restrict v = inverses.data();
    std::vector<float> first(s.width), second(s.width), a_(s.width), b_(s.width);
    float *__restrict a = a_.data(), *__restrict b = b_.data();
    for (int64_t beat = 0; beat < beats; ++beat) {
        auto factors = s.repeated(with_grad ? factor + beat * k : constant + beat * k);
        auto constants = s.repeated(constant + beat * k);
        TanhGradient<T, with_grad> gradient{grad, active, factors.data(), constants.data()};
        std::memset(a, 0, s.width * sizeof(float));
        std::memset(b, 0, s.width * sizeof(float));
        for (int64_t step = 0; step < s.steps; ++step) {
            int64_t at = (beat * s.steps + step) * s.width;
            for (int64_t i = 0; i < s.width; ++i) {
                float g = gradient(at, i);
                a[i] += g * ((load(x[at + i]) - m[i]) * v[i]);
                b[i] += g;
            }
        }
        for (int64_t i = 0; i < s.width; ++i) {
            first[i] += a[i];
            second[i] += b[i];
        }
    }
    s.folded(first, d_weight);
    s.folded(second, d_bias);
}

template <class T, bool with_grad>
void tanh_backward(int64_t beats, int64_t steps, int64_t k, const T* grad, const float* factor,
                   const float* constant, const T* active, const T* x, const float* mean,
                   const float* p, const float* q, const float* r, T* d_x) {
    Shape s(beats, steps, k);
    auto means = s.repeated(mean), ps = s.repeated(p), qs = s.repeated(q), rs = s.repeated(r);
    const float *__restrict m = means.data(), *__restrict u = ps.data(), *__restrict v = qs.data(),
                *__restrict w = rs.data();
    for (int64_t beat = 0; beat < beats; ++beat) {
        auto factors = s.repeated(with_grad ? factor + beat * k : constant + beat * k);
        auto constants = s.repeated(constant + beat * k);
        TanhGradient<T, with_grad> gradient{grad, active, factors.data(), constants.data()};
        for (int64_t step = 0; step < s.steps; ++step) {
            int64_t at = (beat * s.steps + step) * s.width;
            const T* __restrict row = x + at;
            T* __restrict to = d_x + at;
            for (int64_t i = 0; i < s.width; ++i)
                store(to + i, u[i] * gradient(at, i) - v[i] - w[i] * (load(row[i]) - m[i]));
        }
    }
}

}  // namespace

#define KERNELS(T, SUFFIX)                                                                        \
    void sums_around_##SUFFIX(int64_t beats, int64_t steps, int64_t k, const T* x,                \
                              const float* origin, float* sum, float* squares) {                  \
        sums_around(beats, steps, k, x, origin, sum, squares);                                    \
    }                                                                                             \
    void affine_relu_##SUFFIX(int64_t beats, int64_t steps, int64_t k, const T* x,                \
                              const float* scale, const float* shift, T* out) {                   \
        affine_relu(beats, steps, k, x, scale, shift, out);                                       \
    }                                                                                             \
    void relu_backward_sums_##SUFFIX(int64_t beats, int64_t steps, int64_t k, const T* grad,      \
                                     const T* out, const T* x, const float* mean,                 \
                                     const float* inverse_sd, float* d_weight, float* d_bias) {   \
        relu_backward_sums(beats, steps, k, grad, out, x, mean, inverse_sd, d_weight, d_bias);    \
    }                                                                                             \
    void relu_backward_##SUFFIX(int64_t beats, int64_t steps, int64_t k, const T* grad,           \
                                const T* out, const T* x, const float* mean, const float* p,      \
                                const float* q, const float* r, T* d_x) {                         \
        relu_backward(beats, steps, k, grad, out, x, mean, p, q, r, d_x);                         \
    }                                                                                             \
    void affine_tanh_##SUFFIX(int64_t beats, int64_t steps, int64_t k, const T* x,                \
                              const float* scale, const float* shift, T* active, float* mean) {   \
        affine_tanh(beats, steps, k, x, scale, shift, active, mean);                              \
    }                                                                                             \
    void scaled_##SUFFIX(int64_t beats, int64_t steps, int64_t k, const T* x,                     \
                         const float* factor, T* out) {                                           \
        scaled(beats, steps, k, x, factor, out);                                                  \
    }                                                                                             \
    void product_over_time_##SUFFIX(int64_t beats, int64_t steps, int64_t k, const T* a,          \
                                    const T* b, float* sum) {                                     \
        product_over_time(beats, steps, k, a, b, sum);                                            \
    }                                                                                             \
    void tanh_backward_sums_##SUFFIX(int64_t beats, int64_t steps, int64_t k, const T* grad,      \
                                     const float* factor, const float* constant, const T* active, \
                                     const T* x, const float* mean, const float* inverse_sd,      \
                                     float* d_weight, float* d_bias) {                            \
        (grad ? tanh_backward_sums<T, true> : tanh_backward_sums<T, false>)(                      \
            beats, steps, k, grad, factor, constant, active, x, mean, inverse_sd, d_weight,       \
            d_bias);                                                                              \
    }                                                                                             \
    void tanh_backward_##SUFFIX(int64_t beats, int64_t steps, int64_t k, const T* grad,           \
                                const float* factor, const float* constant, const T* active,      \
                                const T* x, const float* mean, const float* p, const float* q,    \
                                const float* r, T* d_x) {                                         \
        (grad ? tanh_backward<T, true> : tanh_backward<T, false>)(                                \
            beats, steps, k, grad, factor, constant, active, x, mean, p, q, r, d_x);              \
    }

extern "C" {
KERNELS(float, float32)
KERNELS(bf16, bfloat16)
}
