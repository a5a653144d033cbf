// SPDX-License-Identifier: Apache-2.0
// Saved states of a model that counts coverage. Verilator gives such a model none, so `nncosim.tb.sim.saved_state`
// writes them beside the generated code; top.cpp calls them as if Verilator had.
#pragma once

class Vtop;
class VerilatedSerialize;
class VerilatedDeserialize;

VerilatedSerialize& operator<<(VerilatedSerialize& out, Vtop& model);
VerilatedDeserialize& operator>>(VerilatedDeserialize& in, Vtop& model);
