// SPDX-License-Identifier: Apache-2.0
// Behavioural model of the SRAM macro: one clock, one registered read port, one write port with a mask.
//
// A read samples r_addr at the rising edge while r_en is high; r_data holds otherwise. What a read of the
// address being written in the same cycle returns is undefined, as of most real macros: here it is the old
// data with every bit inverted, so that whoever relies on the old data shows. DEPTH words of WIDTH bits; w_en has one
// bit per GRAN bits of data. With one port any write in the cycle of a read poisons what is read. Synthesis treats the
// module as a black box, simulation reaches the storage through `mem`.
module nncosim_sram #(
    parameter DEPTH = 16,
    parameter WIDTH = 8,
    parameter GRAN = WIDTH,
    parameter PORTS = 2,  // 1: r_addr and w_addr are the same pins
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
    reg [WIDTH-1:0] mem [0:DEPTH-1];

    // Only this block touches `mem`, and it reads before it writes: a blocking write saves the simulator a
    // shadow copy of every word.
    wire [WIDTH-1:0] poison = {WIDTH{|w_en && (PORTS == 1 || r_addr == w_addr)}};
    /* verilator lint_off BLKSEQ */
    generate
        if (GRAN == WIDTH) begin : whole
            always @(posedge clk) begin
                if (r_en) r_data <= mem[r_addr] ^ poison;
                if (w_en[0]) mem[w_addr] = w_data;
            end
        end else begin : masked
            wire [WIDTH-1:0] mask;
            genvar lane;
            for (lane = 0; lane < WIDTH / GRAN; lane = lane + 1) begin : expand
                assign mask[lane*GRAN +: GRAN] = {GRAN{w_en[lane]}};
            end
            always @(posedge clk) begin
                if (r_en) r_data <= mem[r_addr] ^ poison;
                if (&w_en) mem[w_addr] = w_data;
                else if (|w_en) mem[w_addr] = (mem[w_addr] & ~mask) | (w_data & mask);
            end
        end
    endgenerate
    /* verilator lint_on BLKSEQ */
endmodule
