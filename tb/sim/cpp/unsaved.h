// SPDX-License-Identifier: Apache-2.0
// Verilator gives a model that counts coverage no saved states, which top.cpp offers of every model. Nobody calls these:
// see `Model.save`.
#pragma once

class Vtop;
class VerilatedSerialize;
class VerilatedDeserialize;

inline VerilatedSerialize& operator<<(VerilatedSerialize& out, Vtop&) { return out; }
inline VerilatedDeserialize& operator>>(VerilatedDeserialize& in, Vtop&) { return in; }
