// SPDX-License-Identifier: Apache-2.0
// What stands at the chip's entry port: a memory of packets, sent as fast as the port takes them. The bench puts beats
// into `store` by a back door and raises `limit`; beat n lies at n modulo DEPTH.

module j3dai_sensor #(
    parameter WORD_BITS = 128,
    parameter DEPTH = 1024  // a power of two
) (
    input                  clk,
    input                  rst,
    input  [31:0]          limit,  // beats that are there, since reset
    output [WORD_BITS-1:0] payload,
    output reg             valid,
    input                  ready,
    output reg [31:0]      sent
);
    reg  [31:0] limit_q;  // see j3dai_tb.sv: what depends on an input port costs at every edge
    wire [31:0] next = sent + {31'b0, valid && ready};

    always @(posedge clk) begin
        limit_q <= limit;
        sent <= rst ? 0 : next;
        valid <= !rst && next != limit_q;
    end

    nncosim_sram #(.DEPTH(DEPTH), .WIDTH(WORD_BITS)) store (
        .clk(clk), .r_en(1'b1), .r_addr(next[$clog2(DEPTH)-1:0]), .r_data(payload),
        .w_en(1'b0), .w_addr(0), .w_data(0)
    );
endmodule
