// Cell list of a plain cloud of positions (images included): CSR over Cartesian boxes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/lattice.hpp"

namespace dcharge {

struct CellList {
  double origin[3] = {0, 0, 0}, per_edge[3] = {0, 0, 0};
  int64_t n[3] = {0, 0, 0};
  std::vector<int64_t> first;   // [n0 n1 n2 + 1]
  std::vector<int64_t> member;  // positions sorted by box, ascending inside a box

  int64_t clamp(int a, double r) const {
    double i = std::floor((r - origin[a]) * per_edge[a]);
    return i < 0 ? 0 : i >= static_cast<double>(n[a]) ? n[a] - 1 : static_cast<int64_t>(i);
  }

  CellList(const Images& cloud, double edge) {
    int64_t count = cloud.size();
    if (count == 0) {
      return;
    }
    const std::vector<double>* axes[3] = {&cloud.x, &cloud.y, &cloud.z};
    double extent[3];
    for (int a = 0; a < 3; ++a) {
      auto [low, high] = std::minmax_element(axes[a]->begin(), axes[a]->end());
      origin[a] = *low;
      extent[a] = *high - *low;
    }
    // a sparse cloud in a huge box must not ask for more boxes than a few per member
    auto boxes = [&](double e) { return (extent[0] / e + 1) * (extent[1] / e + 1) * (extent[2] / e + 1); };
    while (boxes(edge) > 8.0 * static_cast<double>(count) + 64) {
      edge *= 1.5;
    }
    for (int a = 0; a < 3; ++a) {
      per_edge[a] = 1 / edge;
      n[a] = static_cast<int64_t>(extent[a] / edge) + 1;
    }
    std::vector<int64_t> box(count);
    first.assign(n[0] * n[1] * n[2] + 1, 0);
    for (int64_t i = 0; i < count; ++i) {
      box[i] = (clamp(0, cloud.x[i]) * n[1] + clamp(1, cloud.y[i])) * n[2] + clamp(2, cloud.z[i]);
      ++first[box[i] + 1];
    }
    for (size_t b = 1; b < first.size(); ++b) {
      first[b] += first[b - 1];
    }
    std::vector<int64_t> next(first.begin(), first.end() - 1);
    member.resize(count);
    for (int64_t i = 0; i < count; ++i) {
      member[next[box[i]]++] = i;
    }
  }

  // Calls visit(i) for every member whose box touches the Cartesian region [low, high].
  template <class F>
  void query(const double* low, const double* high, F visit) const {
    if (member.empty()) {
      return;
    }
    int64_t a[3], b[3];
    for (int i = 0; i < 3; ++i) {
      a[i] = clamp(i, low[i]);
      b[i] = clamp(i, high[i]);
    }
    for (int64_t i = a[0]; i <= b[0]; ++i) {
      for (int64_t j = a[1]; j <= b[1]; ++j) {
        int64_t row = (i * n[1] + j) * n[2];
        for (int64_t m = first[row + a[2]]; m < first[row + b[2] + 1]; ++m) {
          visit(member[m]);
        }
      }
    }
  }
};

}  // namespace dcharge
