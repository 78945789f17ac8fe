// Numbers to text: fixed-width scientific notation, correctly rounded, in C (1.23450E-01) or Fortran (0.12345E+00)
// style.
#pragma once

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

namespace dcharge::io {

enum class Style { c, fortran };

// 10^k as an unevaluated sum of two doubles, good to about 2^-100.
struct PowersOfTen {
  static constexpr int size = 64;
  std::array<double, size> high{}, low{};
  PowersOfTen() {
    double h = 1.0, l = 0.0;
    for (int k = 0; k < size; ++k) {
      high[static_cast<size_t>(k)] = h;
      low[static_cast<size_t>(k)] = l;
      double p = h * 10.0, e = std::fma(h, 10.0, -p) + l * 10.0;
      h = p + e;
      l = e - (h - p);
    }
  }
};

// |value| = digits * 10^(exponent + 1 - n), 10^(n-1) <= digits < 10^n. value finite, not 0; 2 <= n <= 15.
inline void decimal(double value, int n, uint64_t& digits, int& exponent) {
  static const PowersOfTen ten;
  static constexpr uint64_t whole[] = {1ull,
                                       10ull,
                                       100ull,
                                       1000ull,
                                       10000ull,
                                       100000ull,
                                       1000000ull,
                                       10000000ull,
                                       100000000ull,
                                       1000000000ull,
                                       10000000000ull,
                                       100000000000ull,
                                       1000000000000ull,
                                       10000000000000ull,
                                       100000000000000ull,
                                       1000000000000000ull};
  value = std::fabs(value);
  int binary;
  std::frexp(value, &binary);
  int e = static_cast<int>(std::floor((binary - 1) * 0.30102999566398120));  // right or one too small
  for (int attempt = 0; attempt < 2; ++attempt, ++e) {
    const int k = n - 1 - e;
    if (k < 0 || k >= PowersOfTen::size) {
      break;
    }
    const double t = ten.high[static_cast<size_t>(k)];
    const double p = value * t;
    const double rest = std::fma(value, t, -p) + value * ten.low[static_cast<size_t>(k)];
    const double floor_p = std::floor(p);
    const double fraction = (p - floor_p) + rest;  // distance to floor_p, known to about 1e-15
    if (std::fabs(fraction - 0.5) < 1e-9) {
      break;  // too close to a tie: ask to_chars
    }
    int64_t r = static_cast<int64_t>(floor_p) + (fraction > 0.5 ? 1 : 0);
    if (r >= static_cast<int64_t>(whole[n])) {
      if (p < static_cast<double>(whole[n]) && r == static_cast<int64_t>(whole[n])) {  // rounded up to 10^n
        digits = whole[n - 1];
        exponent = e + 1;
        return;
      }
      continue;  // the estimate was one too small
    }
    if (r < static_cast<int64_t>(whole[n - 1])) {
      break;
    }
    digits = static_cast<uint64_t>(r);
    exponent = e;
    return;
  }
  char text[64];
#if defined(__cpp_lib_to_chars)
  char* end = std::to_chars(text, text + 63, value, std::chars_format::scientific, n - 1).ptr;
  *end = 0;
#else
  std::snprintf(text, 64, "%.*e", n - 1, value);
#endif
  digits = 0;
  const char* q = text;
  for (; *q != 'e'; ++q) {
    if (*q >= '0' && *q <= '9') {
      digits = digits * 10 + static_cast<uint64_t>(*q - '0');
    }
  }
  exponent = 0;
  const bool minus = q[1] == '-';
  for (q += 2; *q; ++q) {
    exponent = exponent * 10 + (*q - '0');
  }
  if (minus) {
    exponent = -exponent;
  }
}

inline char* put_digits(char* to, uint64_t digits, int n) {
  static const char pairs[] =
      "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
      "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
  char* p = to + n;
  while (n >= 2) {
    p -= 2;
    std::memcpy(p, pairs + 2 * (digits % 100), 2);
    digits /= 100;
    n -= 2;
  }
  if (n) {
    *--p = static_cast<char>('0' + digits);
  }
  return to;
}

// Width of one printed number, its leading blank included.
inline int width(int n) { return n + 7; }

// Writes exactly width(n) characters. C: " 1.2345E-01"; Fortran: " 0.12345E+00", " -.12345E+00" as VASP does.
inline char* put_number(char* to, double value, int n, Style style) {
  if (!std::isfinite(value)) {
    throw std::runtime_error("a density value is not a finite number (nan or inf)");
  }
  uint64_t digits = 0;
  int exponent = style == Style::fortran ? -1 : 0;
  if (value != 0) {
    decimal(value, n, digits, exponent);
  }
  const bool negative = value < 0;
  if (style == Style::c && exponent < -99) {
    digits = 0, exponent = 0;  // the field has two digits for the exponent
  }
  if (style == Style::c && exponent > 99) {
    throw std::runtime_error("a density value is 1e100 or larger");
  }
  *to++ = ' ';
  if (style == Style::fortran) {
    *to++ = negative ? '-' : '0';
    *to++ = '.';
    put_digits(to, digits, n);
    to += n;
    ++exponent;
  } else {
    *to++ = negative ? '-' : ' ';
    char text[24];
    put_digits(text, digits, n);
    *to++ = text[0];
    *to++ = '.';
    std::memcpy(to, text + 1, static_cast<size_t>(n - 1));
    to += n - 1;
  }
  int e = exponent < 0 ? -exponent : exponent;
  if (e < 100) {
    *to++ = 'E';
    *to++ = exponent < 0 ? '-' : '+';
  } else {  // Fortran drops the E before three digits
    *to++ = exponent < 0 ? '-' : '+';
    *to++ = static_cast<char>('0' + e / 100);
    e %= 100;
  }
  *to++ = static_cast<char>('0' + e / 10);
  *to++ = static_cast<char>('0' + e % 10);
  return to;
}

}  // namespace dcharge::io
