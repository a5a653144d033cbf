// SPDX-License-Identifier: Apache-2.0
// The SRAM macro as an FPGA's block RAM: what hdl/sram.v describes, in the form that Yosys infers one from. Reading the
// word that is written in the same cycle is undefined there, so that no logic need be spent on it here.
module nncosim_sram #(
    parameter DEPTH = 16,
    parameter WIDTH = 8,
    parameter GRAN = WIDTH,
    parameter PORTS = 2,
    localparam ADDR = DEPTH > 1 ? $clog2(DEPTH) : 1
) (
    input                       clk,
    input                       r_en,
    input      [ADDR-1:0]       r_addr,
    output reg [WIDTH-1:0]      r_data,
    input      [WIDTH/GRAN-1:0] w_en,
    input      [ADDR-1:0]       w_addr,
    input      [WIDTH-1:0]      w_data
);
    (* no_rw_check *) reg [WIDTH-1:0] mem [0:DEPTH-1];

    always @(posedge clk) if (r_en) r_data <= mem[r_addr];
    genvar lane;
    generate
        for (lane = 0; lane < WIDTH / GRAN; lane = lane + 1) begin : lanes
            always @(posedge clk) if (w_en[lane]) mem[w_addr][lane*GRAN +: GRAN] <= w_data[lane*GRAN +: GRAN];
        end
    endgenerate
endmodule
