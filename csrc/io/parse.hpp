// Text to numbers: free-format Fortran and C numbers out of a byte range, with the line they stand in.
//
// Accepted: 0.12E+01, -.373E-01, 1.5D-3, 0.123-102 (Fortran drops the E before three digits), and numbers that touch
// (0.1E+01-0.2E+01, 0.12E+000.13E+00). Everything else is a ParseError that names the line.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace dcharge::io {

struct ParseError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Cursor {
  const char* p;
  const char* end;
  int64_t line;  // 1-based line of *p
};

// How many of the values were nan or inf, and where the first of them stands.
struct NonFinite {
  int64_t count = 0;
  int64_t line = 0;
};

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

inline bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// Moves to the next character that is not white space; false at the end of the bytes.
inline bool skip_space(Cursor& at) {
  const char* p = at.p;
  while (p < at.end && is_space(*p)) {
    at.line += *p++ == '\n';
  }
  at.p = p;
  return p < at.end;
}

inline bool eight_digits(uint64_t v) {
  return ((v & 0xF0F0F0F0F0F0F0F0ull) | (((v + 0x0606060606060606ull) & 0xF0F0F0F0F0F0F0F0ull) >> 4)) ==
         0x3333333333333333ull;
}

inline uint64_t value_of_eight(uint64_t v) {  // little endian, eight ASCII digits
  v -= 0x3030303030303030ull;
  v = v * 10 + (v >> 8);
  return (((v & 0x000000FF000000FFull) * 0x000F424000000064ull) +
          (((v >> 16) & 0x000000FF000000FFull) * 0x0000271000000001ull)) >>
         32;
}

// mantissa * 10^exponent, correctly rounded.
inline double scaled(uint64_t mantissa, int exponent) {
  static constexpr double power[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                     1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  if (mantissa < (1ull << 53) && exponent >= -22 && exponent <= 22) {
    double m = static_cast<double>(mantissa);
    return exponent < 0 ? m / power[-exponent] : m * power[exponent];
  }
  if (mantissa == 0) {
    return 0.0;
  }
#if defined(__LDBL_MANT_DIG__) && __LDBL_MANT_DIG__ == 64 && defined(__x86_64__)
  if (exponent < 0 && exponent >= -27) {  // one division of exact numbers in 64 bits; wrong only if that is a tie
    static constexpr long double more[] = {1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
    const long double q = static_cast<long double>(mantissa) /
                          (exponent < -22 ? more[-exponent - 23] : static_cast<long double>(power[-exponent]));
    uint64_t bits;
    std::memcpy(&bits, &q, 8);
    if ((bits & 0x7FF) != 0x400) {
      return static_cast<double>(q);
    }
  }
#endif
  char text[40];
  char* q = std::to_chars(text, text + 24, mantissa).ptr;
  *q++ = 'e';
  q = std::to_chars(q, text + 39, exponent).ptr;
#if defined(__cpp_lib_to_chars)
  double value = 0.0;
  if (std::from_chars(text, q, value).ec == std::errc::result_out_of_range) {
    return exponent < 0 ? 0.0 : std::numeric_limits<double>::infinity();
  }
  return value;
#else
  *q = 0;
  return std::strtod(text, nullptr);
#endif
}

// Case-insensitive test for a word at p.
inline bool word_at(const char* p, const char* end, const char* word) {
  for (; *word; ++word, ++p) {
    if (p >= end || (*p | 0x20) != *word) {
      return false;
    }
  }
  return true;
}

// One number at p (no leading white space). On success p stands behind it; false where there is no number.
inline bool number(const char*& at, const char* end, double& out) {
  const char* p = at;
  bool negative = false;
  if (p < end && (*p == '-' || *p == '+')) {
    negative = *p++ == '-';
  }
  uint64_t m = 0;
  int exponent = 0;
  bool any = false;
  while (p < end && is_digit(*p)) {
    any = true;
    if (m < 1000000000000000000ull) {
      m = m * 10 + static_cast<uint64_t>(*p - '0');
    } else {
      ++exponent;
    }
    ++p;
  }
  if (p < end && *p == '.') {
    ++p;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    while (end - p >= 8 && m < 100000000000ull) {
      uint64_t v;
      std::memcpy(&v, p, 8);
      if (!eight_digits(v)) {
        break;
      }
      m = m * 100000000ull + value_of_eight(v);
      exponent -= 8;
      p += 8;
      any = true;
    }
#endif
    while (p < end && is_digit(*p)) {
      any = true;
      if (m < 1000000000000000000ull) {
        m = m * 10 + static_cast<uint64_t>(*p - '0');
        --exponent;
      }
      ++p;
    }
  }
  if (!any) {
    if (word_at(p, end, "nan")) {
      out = std::numeric_limits<double>::quiet_NaN();
      p += 3;
    } else if (word_at(p, end, "inf")) {
      out = negative ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
      p += word_at(p, end, "infinity") ? 8 : 3;
    } else {
      return false;
    }
    if (p < end && !is_space(*p)) {
      return false;
    }
    at = p;
    return true;
  }
  bool exponent_given = false;
  if (p < end) {
    char c = *p | 0x20;
    if (c == 'e' || c == 'd') {
      const char* q = p + 1;
      bool minus = false;
      if (q < end && (*q == '-' || *q == '+')) {
        minus = *q++ == '-';
      }
      const char* first = q;
      int e = 0;
      while (q < end && is_digit(*q)) {
        if (e < 100000) {
          e = e * 10 + (*q - '0');
        }
        ++q;
      }
      if (q == first) {
        return false;
      }
      if (q < end && *q == '.' && q - first >= 3) {
        e = e / 10, --q;  // that digit opens the next number
      }
      exponent += minus ? -e : e;
      p = q;
      exponent_given = true;
    } else if ((*p == '-' || *p == '+') && end - p >= 4 && is_digit(p[1]) && is_digit(p[2]) && is_digit(p[3]) &&
               (end - p == 4 || (!is_digit(p[4]) && p[4] != '.'))) {
      int e = (p[1] - '0') * 100 + (p[2] - '0') * 10 + (p[3] - '0');
      exponent += *p == '-' ? -e : e;
      p += 4;
      exponent_given = true;
    }
  }
  if (p < end && !is_space(*p) && *p != '-' && *p != '+' && !(exponent_given && (is_digit(*p) || *p == '.'))) {
    return false;
  }
  double value = scaled(m, exponent);
  out = negative ? -value : value;
  at = p;
  return true;
}

inline std::string token_at(const Cursor& at) {
  const char* q = at.p;
  std::string text;
  while (q < at.end && !is_space(*q) && text.size() < 24) {
    unsigned char c = static_cast<unsigned char>(*q++);
    text += c >= 32 && c < 127 ? static_cast<char>(c) : '?';
  }
  return text;
}

// Next number; `done` of `total` are behind us (for the message).
inline double next_number(Cursor& at, int64_t done, int64_t total, NonFinite& bad) {
  double value;
  if (!skip_space(at)) {
    throw ParseError("line " + std::to_string(at.line) + ": the file ends after " + std::to_string(done) + " of " +
                     std::to_string(total) + " values");
  }
  if (!number(at.p, at.end, value)) {
    throw ParseError("line " + std::to_string(at.line) + ": '" + token_at(at) + "' found where value " +
                     std::to_string(done + 1) + " of " + std::to_string(total) + " was expected");
  }
  if (!std::isfinite(value) && bad.count++ == 0) {
    bad.line = at.line;
  }
  return value;
}

// n numbers in the order of the file.
template <class T>
void parse_flat(Cursor& at, int64_t n, double scale, T* out, NonFinite& bad) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<T>(next_number(at, i, n, bad) * scale);
  }
}

// nx ny nz numbers, x fastest, into out[nx][ny][nz]. Eight planes at a time, so that every store fills a cache line.
template <class T>
void parse_x_fastest(Cursor& at, int64_t nx, int64_t ny, int64_t nz, double scale, T* out, NonFinite& bad) {
  constexpr int64_t planes = 8;
  const int64_t plane = nx * ny, total = plane * nz;
  std::vector<double> buffer(static_cast<size_t>(planes * plane));
  for (int64_t z0 = 0; z0 < nz; z0 += planes) {
    const int64_t depth = nz - z0 < planes ? nz - z0 : planes;
    for (int64_t i = 0; i < depth * plane; ++i) {
      buffer[static_cast<size_t>(i)] = next_number(at, z0 * plane + i, total, bad) * scale;
    }
    for (int64_t y = 0; y < ny; ++y) {
      for (int64_t x = 0; x < nx; ++x) {
        T* to = out + (x * ny + y) * nz + z0;
        const double* from = buffer.data() + y * nx + x;
        for (int64_t k = 0; k < depth; ++k) {
          to[k] = static_cast<T>(from[k * plane]);
        }
      }
    }
  }
}

}  // namespace dcharge::io
