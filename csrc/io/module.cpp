// dcharge._io: the loops over text that Python is too slow for. No torch.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "parse.hpp"
#include "print.hpp"

namespace py = pybind11;
using namespace dcharge::io;

namespace {

Cursor cursor(const py::buffer_info& bytes, int64_t offset, int64_t line) {
  if (bytes.itemsize != 1 || bytes.ndim != 1) {
    throw py::value_error("bytes expected");
  }
  if (offset < 0 || offset > bytes.size) {
    throw py::value_error("offset outside the bytes");
  }
  const char* data = static_cast<const char*>(bytes.ptr);
  return {data + offset, data + bytes.size, line};
}

template <class F>
void with_type(const py::array& values, F&& call) {
  if (!(values.flags() & py::array::c_style)) {
    throw py::value_error("C-contiguous array expected");
  }
  if (py::isinstance<py::array_t<double>>(values)) {
    call(static_cast<double*>(nullptr));
  } else if (py::isinstance<py::array_t<float>>(values)) {
    call(static_cast<float*>(nullptr));
  } else {
    throw py::type_error("float32 or float64 array expected");
  }
}

py::tuple result(const Cursor& at, const py::buffer_info& bytes, const NonFinite& bad) {
  return py::make_tuple(at.p - static_cast<const char*>(bytes.ptr), at.line, bad.count, bad.line);
}

// parse(bytes, offset, line, out, scale, x_fastest) -> (offset, line, n_nonfinite, line of the first of these)
py::tuple parse(const py::buffer& text, int64_t offset, int64_t line, py::array out, double scale, bool x_fastest) {
  py::buffer_info bytes = text.request();
  Cursor at = cursor(bytes, offset, line);
  NonFinite bad;
  if (x_fastest && out.ndim() != 3) {
    throw py::value_error("x_fastest: array [nx, ny, nz] expected");
  }
  with_type(out, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    T* to = static_cast<T*>(out.mutable_data());
    const int64_t n = out.size();
    const int64_t nx = x_fastest ? out.shape(0) : 0, ny = x_fastest ? out.shape(1) : 0,
                  nz = x_fastest ? out.shape(2) : 0;
    py::gil_scoped_release free;
    if (x_fastest) {
      parse_x_fastest(at, nx, ny, nz, scale, to, bad);
    } else {
      parse_flat(at, n, scale, to, bad);
    }
  });
  return result(at, bytes, bad);
}

// skip(bytes, offset, line, n) -> (offset, line, n_nonfinite, line): as parse, without keeping the values
py::tuple skip(const py::buffer& text, int64_t offset, int64_t line, int64_t n) {
  py::buffer_info bytes = text.request();
  Cursor at = cursor(bytes, offset, line);
  NonFinite bad;
  {
    py::gil_scoped_release free;
    for (int64_t i = 0; i < n; ++i) {
      next_number(at, i, n, bad);
    }
  }
  return result(at, bytes, bad);
}

// numbers(bytes, n) -> up to n leading numbers of a line, ending at the first thing that is none
std::vector<double> numbers(const py::buffer& text, int n) {
  py::buffer_info bytes = text.request();
  Cursor at = cursor(bytes, 0, 1);
  std::vector<double> out;
  double value;
  while (static_cast<int>(out.size()) < n && skip_space(at) && number(at.p, at.end, value)) {
    out.push_back(value);
  }
  return out;
}

// print(values, start, stop, scale, per_line, digits, fortran, x_fastest) -> bytes.
//   x_fastest: values [nx, ny, nz] in Fortran order, planes z = start..stop, per_line numbers a line throughout
//   otherwise: values [rows, n], rows start..stop, each beginning on a new line
py::bytes print(const py::array& values, int64_t start, int64_t stop, double scale, int per_line, int digits,
                bool fortran, bool x_fastest) {
  if (digits < 2 || digits > 15) {
    throw py::value_error("2 to 15 digits expected");
  }
  if (values.ndim() != (x_fastest ? 3 : 2)) {
    throw py::value_error("array of the wrong rank");
  }
  const Style style = fortran ? Style::fortran : Style::c;
  const int64_t n0 = values.shape(0), n1 = values.shape(1), n2 = x_fastest ? values.shape(2) : 1;
  const int64_t last = x_fastest ? n2 : n0;
  if (start < 0 || stop > last || start > stop) {
    throw py::value_error("range outside the array");
  }
  const int64_t row = x_fastest ? n0 * n1 : n1, count = row * (stop - start);
  const int64_t lines = x_fastest ? count / per_line + 2 : (stop - start) * (row / per_line + 1);
  PyObject* made = PyBytes_FromStringAndSize(nullptr, count * width(digits) + lines);
  if (!made) {
    throw py::error_already_set();
  }
  py::bytes holder = py::reinterpret_steal<py::bytes>(made);
  char* const first = PyBytes_AS_STRING(made);
  char* to = first;
  with_type(values, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* from = static_cast<const T*>(values.data());
    py::gil_scoped_release free;
    if (!x_fastest) {
      for (int64_t r = start; r < stop; ++r) {
        for (int64_t i = 0; i < row; ++i) {
          to = put_number(to, static_cast<double>(from[r * row + i]) * scale, digits, style);
          if ((i + 1) % per_line == 0 || i + 1 == row) {
            *to++ = '\n';
          }
        }
      }
      return;
    }
    constexpr int64_t planes = 8;  // gathered together: one cache line of the source serves eight planes
    std::vector<double> buffer(static_cast<size_t>(planes * row));
    int64_t column = (start * row) % per_line;
    for (int64_t z0 = start; z0 < stop; z0 += planes) {
      const int64_t depth = stop - z0 < planes ? stop - z0 : planes;
      for (int64_t y = 0; y < n1; ++y) {
        for (int64_t x = 0; x < n0; ++x) {
          for (int64_t k = 0; k < depth; ++k) {
            buffer[static_cast<size_t>(k * row + y * n0 + x)] = static_cast<double>(from[(x * n1 + y) * n2 + z0 + k]);
          }
        }
      }
      for (int64_t i = 0; i < depth * row; ++i) {
        to = put_number(to, buffer[static_cast<size_t>(i)] * scale, digits, style);
        if (++column == per_line) {
          *to++ = '\n', column = 0;
        }
      }
    }
    if (stop == n2 && column) {
      *to++ = '\n';
    }
  });
  if (to - first == PyBytes_GET_SIZE(made)) {
    return holder;
  }
  PyObject* raw = holder.release().ptr();
  if (_PyBytes_Resize(&raw, to - first) != 0) {
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::bytes>(raw);
}

}  // namespace

PYBIND11_MODULE(_io, m) {
  m.doc() = "Fast parsing and printing of text numbers";
  py::register_exception<ParseError>(m, "ParseError", PyExc_ValueError);
  m.def("parse", &parse, py::arg("text"), py::arg("offset"), py::arg("line"), py::arg("out"), py::arg("scale") = 1.0,
        py::arg("x_fastest") = false);
  m.def("skip", &skip, py::arg("text"), py::arg("offset"), py::arg("line"), py::arg("n"));
  m.def("numbers", &numbers, py::arg("text"), py::arg("n"));
  m.def("print", &print, py::arg("values"), py::arg("start"), py::arg("stop"), py::arg("scale"), py::arg("per_line"),
        py::arg("digits"), py::arg("fortran"), py::arg("x_fastest"));
}
