#include "cpu/environments.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace dcharge {

void Surroundings::start(const Plan::Tile& tile) {
  // in the order of the images, which is (atom, shift)
  std::vector<int64_t> all(tile.n_candidates);
  std::iota(all.begin(), all.end(), 0);
  std::sort(all.begin(), all.end(), [&](int64_t a, int64_t b) { return tile.found[a] < tile.found[b]; });
  parents_.clear();
  parents_.push_back(std::move(all));
}

void Surroundings::select(const Plan::Tile& tile, int64_t begin, int64_t end, const std::vector<int64_t>& from,
                          std::vector<int64_t>& to) const {
  const double* axes[3] = {tile.x.data(), tile.y.data(), tile.z.data()};
  double low[3], high[3], reach2 = shape_.reach * shape_.reach * (1 + 1e-9);
  for (int a = 0; a < 3; ++a) {
    auto [least, most] = std::minmax_element(axes[a] + begin, axes[a] + end);
    low[a] = *least;
    high[a] = *most;
  }
  for (int64_t c : from) {
    double r[3] = {tile.cx[c], tile.cy[c], tile.cz[c]}, d2 = 0;
    for (int a = 0; a < 3; ++a) {
      double d = std::max({0.0, low[a] - r[a], r[a] - high[a]});
      d2 += d * d;
    }
    if (d2 < reach2) {
      to.push_back(c);
    }
  }
}

void Surroundings::take(const std::vector<int64_t>& candidates, const Plan::Tile& tile) {
  size_t n = candidates.size();
  x_.resize(n);
  y_.resize(n);
  z_.resize(n);
  source_.resize(n);
  for (size_t i = 0; i < n; ++i) {
    x_[i] = tile.cx[candidates[i]];
    y_[i] = tile.cy[candidates[i]];
    z_[i] = tile.cz[candidates[i]];
    source_[i] = tile.source[candidates[i]];
  }
  lists_.resize(std::max(lists_.size(), n));
  for (size_t i = 0; i < n; ++i) {
    lists_[i].sorted = -1;
  }
  node_.assign(n, -1);
  pair_distance_.clear();
  pair_atoms_.clear();
}

void Surroundings::forget_pairs() {
  for (size_t i = 0; i < x_.size(); ++i) {
    if (lists_[i].sorted >= 0) {
      for (Entry& entry : lists_[i].entries) {
        entry.pair = -1;
      }
    }
  }
  pair_distance_.clear();
  pair_atoms_.clear();
}

void Surroundings::make_list(int64_t atom) {
  List& list = lists_[atom];
  list.entries.clear();
  list.sorted = 0;
  double most = 2 * shape_.reach, most2 = most * most * (1 + 1e-9);  // two atoms of one graph are nearer
  for (size_t c = 0; c < x_.size(); ++c) {
    double dx = x_[c] - x_[atom], dy = y_[c] - y_[atom], dz = z_[c] - z_[atom], d2 = dx * dx + dy * dy + dz * dz;
    if (d2 <= most2 && static_cast<int64_t>(c) != atom) {
      list.entries.push_back({std::min(std::sqrt(d2), most), static_cast<int32_t>(c), -1});
    }
  }
  sort_on(list);
}

// The next part of a list, or all of it.
void Surroundings::sort_on(List& list) {
  auto before = [](const Entry& a, const Entry& b) {
    return a.distance < b.distance || (a.distance == b.distance && a.atom < b.atom);
  };
  auto begin = list.entries.begin() + list.sorted, end = list.entries.end();
  if (list.sorted == 0 && end - begin > 2 * kNear) {
    std::nth_element(begin, begin + kNear, end, before);
    end = begin + kNear;
  }
  std::sort(begin, end, before);
  list.sorted = end - list.entries.begin();
}

void Surroundings::find(const Plan::Tile& tile, int64_t i, Environment& out) {
  double x = tile.x[i], y = tile.y[i], z = tile.z[i], reach2 = shape_.reach * shape_.reach;
  out.atom.assign(1, -1);
  out.distance.assign(1, 0.0);
  out.first.assign(1, 0);
  out.edges.clear();
  members_.clear();
  for (size_t c = 0; c < x_.size(); ++c) {
    double dx = x_[c] - x, dy = y_[c] - y, dz = z_[c] - z, d2 = dx * dx + dy * dy + dz * dz;
    if (d2 < reach2) {
      node_[c] = static_cast<int32_t>(out.atom.size());
      members_.push_back(static_cast<int32_t>(c));
      out.atom.push_back(source_[c]);
      out.distance.push_back(std::sqrt(d2));
    }
  }
  edges_of_probe(out);
  for (size_t k = 0; k < members_.size(); ++k) {
    edges_of_atom(members_[k], out.distance[k + 1], out);
  }
  for (int32_t c : members_) {
    node_[c] = -1;
  }
}

void Surroundings::edges_of_probe(Environment& out) {
  auto before = [](const Environment::Edge& a, const Environment::Edge& b) {
    return a.distance < b.distance || (a.distance == b.distance && a.target < b.target);
  };
  int64_t n = static_cast<int64_t>(members_.size()), keep = n;
  for (int32_t node = 1; node <= n; ++node) {
    out.edges.push_back({out.distance[node], node, -1});
  }
  std::sort(out.edges.begin(), out.edges.end(), before);
  if (n > shape_.neighbors) {
    double most = out.edges[shape_.neighbors - 1].distance + shape_.tie;
    for (keep = shape_.neighbors; keep < n && out.edges[keep].distance <= most; ++keep) {
    }
  }
  out.edges.resize(keep);
  out.first.push_back(static_cast<int32_t>(keep));
}

void Surroundings::edges_of_atom(int64_t atom, double from_probe, Environment& out) {
  int64_t wanted = shape_.neighbors, others = static_cast<int64_t>(members_.size()) - 1, n = 0;
  List& list = lists_[atom];
  if (list.sorted < 0) {
    make_list(atom);
  }
  // all that may be among the nearest: `wanted` atoms and those that are as far as the last one
  near_.resize(others + 1);
  bool probe = false;  // whether the probe has had its turn
  double most = std::numeric_limits<double>::infinity();
  for (int64_t e = 0; n <= others; ++e) {
    if (e == list.sorted && e < static_cast<int64_t>(list.entries.size())) {
      sort_on(list);
    }
    bool end = e == static_cast<int64_t>(list.entries.size());
    if (!probe && (end || from_probe <= list.entries[e].distance)) {
      probe = true;  // node 0: first of those that are equally far
      if (from_probe <= most) {
        near_[n++] = {from_probe, 0, -1};
        if (n == wanted) {
          most = from_probe + shape_.tie;
        }
      }
    }
    if (end || list.entries[e].distance > most) {
      break;
    }
    Entry& entry = list.entries[e];
    if (node_[entry.atom] < 0) {
      continue;
    }
    if (entry.pair < 0) {
      entry.pair = static_cast<int32_t>(pair_distance_.size());
      pair_distance_.push_back(entry.distance);
      pair_atoms_.push_back(source_[atom]);
      pair_atoms_.push_back(source_[entry.atom]);
    }
    near_[n++] = {entry.distance, node_[entry.atom], entry.pair};
    if (n == wanted) {
      most = entry.distance + shape_.tie;
    }
  }
  out.edges.insert(out.edges.end(), near_.begin(), near_.begin() + n);
  out.first.push_back(static_cast<int32_t>(out.edges.size()));
}

}  // namespace dcharge
