// radial_moments and its adjoint on the CPU.
#include "cpu/kernels/entries.hpp"
#include "cpu/kernels/group.hpp"
#include "cpu/kernels/rows.hpp"

namespace dcharge {
namespace DCHARGE_ISA {
namespace {

template <class T, int L>
void moments_of(const Radial& radial, const TilePoints& points, const Candidates& atoms, T* out, void* scratch) {
  constexpr int W = kLanes<T>;
  constexpr int n_comp = n_components(L);
  PairConstants<T> constants(radial);
  auto* acc = static_cast<Vec<T>*>(scratch);
  int64_t n_radial = radial.n_radial, stride = padded(n_radial), row = n_comp * n_radial;
  for (int64_t start = 0; start < points.n; start += W) {
    Group<T> g = load_group<T>(points, start);
    for (int64_t t = 0; t < radial.n_types; ++t) {
      T* rows[W];
      for (int i = 0; i < g.n; ++i) {
        rows[i] = out + (points.row[start + i] * radial.n_types + t) * row;
      }
      if (!group_moments<T, L>(constants, g, atoms, t, n_radial, acc, stride)) {
        for (int i = 0; i < g.n; ++i) {
          __builtin_memset(rows[i], 0, row * sizeof(T));
        }
        continue;
      }
      for (int k = 0; k < n_comp; ++k) {
        store_rows<T>(acc + k * stride, n_radial, g.n, rows);
        for (int i = 0; i < g.n; ++i) {
          rows[i] += n_radial;
        }
      }
    }
  }
}

// q[k] = sum_b grad[k][b] T_b(x), dq[k] = sum_b b grad[k][b] U_{b-1}(x) = dq/dx, for G components.
template <class T, int G>
DCHARGE_INLINE void contract_radial(Vec<T> twice_x, const Vec<T>* grad, const Vec<T>* scaled, int64_t n_radial,
                                    int64_t stride, Vec<T>* q, Vec<T>* dq) {
  using V = Vec<T>;
  V value[G], slope[G];
  for (int k = 0; k < G; ++k) {
    value[k] = slope[k] = V{};
  }
  V t0 = set1(T(1)), t1 = T(0.5) * twice_x, u0 = V{}, u1 = set1(T(1));  // T_b, T_{b+1}, U_{b-1}, U_b
  for (int64_t b = 0; b < n_radial; ++b) {
#pragma GCC unroll 4
    for (int k = 0; k < G; ++k) {
      value[k] += grad[k * stride + b] * t0;
      slope[k] += scaled[k * stride + b] * u0;
    }
    V t2 = twice_x * t1 - t0, u2 = twice_x * u1 - u0;
    t0 = t1;
    t1 = t2;
    u0 = u1;
    u1 = u2;
  }
  for (int k = 0; k < G; ++k) {
    q[k] = value[k];
    dq[k] = slope[k];
  }
}

template <class T, int L>
void backward_of(const Radial& radial, const TilePoints& points, const Candidates& atoms, const T* grad,
                 double* d_points, double* d_candidates, void* scratch) {
  using V = Vec<T>;
  constexpr int W = kLanes<T>;
  constexpr int n_comp = n_components(L), G = L == 0 ? 1 : L == 2 ? 3 : 4;
  PairConstants<T> c(radial);
  int64_t n_radial = radial.n_radial, stride = padded(n_radial), row = n_comp * n_radial;
  auto* acc = static_cast<V*>(scratch);
  V* scaled = acc + n_comp * stride;
  for (int64_t start = 0; start < points.n; start += W) {
    Group<T> g = load_group<T>(points, start);
    V px{}, py{}, pz{};
    for (int64_t t = 0; t < radial.n_types; ++t) {
      bool loaded = false;
      Buffer<T> buffer;
      stream<T>(atoms, atoms.first[t], atoms.first[t + 1], g, c.reach2, buffer, [&](int n) {
        if (!loaded) {
          loaded = true;
          const T* rows[W];
          for (int k = 0; k < n_comp; ++k) {
            for (int i = 0; i < g.n; ++i) {
              rows[i] = grad + (points.row[start + i] * radial.n_types + t) * row + k * n_radial;
            }
            load_rows<T>(rows, n_radial, g.n, acc + k * stride);
            for (int64_t b = 0; b < n_radial; ++b) {
              scaled[k * stride + b] = static_cast<T>(b) * acc[k * stride + b];
            }
          }
        }
        for (int i = 0; i < n; ++i) {
          V dx = buffer.x[i] - g.x, dy = buffer.y[i] - g.y, dz = buffer.z[i] - g.z;
          V r2 = dx * dx + dy * dy + dz * dz;
          V per_r = rsqrt(vmax(r2, set1(T(1e-30))));
          V inverse = rsqrt(r2 + c.soft2), inverse2 = inverse * inverse;
          V r = r2 * per_r;
          V u = vmin(vmax((r - c.rcut_smth) * c.per_width, V{}), set1(T(1)));
          V v = vmin(vmax((c.rcut - r) * c.per_width, V{}), set1(T(1)));
          V w = v * v * v * ((T(6) * v - T(15)) * v + T(10));
          V dw = T(-30) * c.per_width * u * u * v * v * per_r;  // w'(r)/r, 0 on the nucleus
          w = r2 < c.rcut2 ? w : V{};
          dw = r2 < c.rcut2 ? dw : V{};
          V x2 = T(2) * vmax(c.slope * inverse - c.intercept, set1(T(-1)));
          V q[n_comp], dq[n_comp], Y[n_comp];
          for (int k = 0; k < n_comp; k += G) {
            contract_radial<T, G>(x2, acc + k * stride, scaled + k * stride, n_radial, stride, q + k, dq + k);
          }
          V ux = dx * inverse, uy = dy * inverse, uz = dz * inverse, vx, vy, vz;
          solid_harmonics<L, T>(ux, uy, uz, Y);
          solid_harmonics_gradient<L, T>(ux, uy, uz, q, vx, vy, vz);
          V value = V{}, slope = V{};
          for (int k = 0; k < n_comp; ++k) {
            value += q[k] * Y[k];
            slope += dq[k] * Y[k];
          }
          V along = ux * vx + uy * vy + uz * vz;
          V radial_part = dw * inverse * value - w * inverse2 * inverse * (value + along + c.slope * inverse * slope);
          V angular_part = w * inverse2;
          V gx = radial_part * dx + angular_part * vx, gy = radial_part * dy + angular_part * vy;
          V gz = radial_part * dz + angular_part * vz;
          px -= gx;
          py -= gy;
          pz -= gz;
          double* to = d_candidates + 3 * buffer.which[i];
          to[0] += sum<T>(gx);
          to[1] += sum<T>(gy);
          to[2] += sum<T>(gz);
        }
      });
    }
    for (int i = 0; i < g.n; ++i) {
      double* to = d_points + 3 * points.row[start + i];
      to[0] = px[i];
      to[1] = py[i];
      to[2] = pz[i];
    }
  }
}

}  // namespace

template <class T>
void moments(const Radial& r, const TilePoints& points, const Candidates& atoms, T* out, void* scratch) {
  (r.l_max == 0   ? moments_of<T, 0>
   : r.l_max == 1 ? moments_of<T, 1>
   : r.l_max == 2 ? moments_of<T, 2>
                  : moments_of<T, 3>)(r, points, atoms, out, scratch);
}

template <class T>
void moments_backward(const Radial& r, const TilePoints& points, const Candidates& atoms, const T* grad,
                      double* d_points, double* d_candidates, void* scratch) {
  (r.l_max == 0   ? backward_of<T, 0>
   : r.l_max == 1 ? backward_of<T, 1>
   : r.l_max == 2 ? backward_of<T, 2>
                  : backward_of<T, 3>)(r, points, atoms, grad, d_points, d_candidates, scratch);
}

template void moments<float>(const Radial&, const TilePoints&, const Candidates&, float*, void*);
template void moments<double>(const Radial&, const TilePoints&, const Candidates&, double*, void*);
template void moments_backward<float>(const Radial&, const TilePoints&, const Candidates&, const float*, double*,
                                      double*, void*);
template void moments_backward<double>(const Radial&, const TilePoints&, const Candidates&, const double*, double*,
                                       double*, void*);

}  // namespace DCHARGE_ISA
}  // namespace dcharge
