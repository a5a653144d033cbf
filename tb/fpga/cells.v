// SPDX-License-Identifier: Apache-2.0
// Models of an ECP5's cells of which Yosys' package has none that can be used; see netlist.py.

// Half of a carry chain's CCU2C: a table whose output is added to the carry that comes in. As CCU2C of Yosys'
// ccu2c_sim.vh, which stands for both halves before they are packed.
module nncosim_ecp5_carry (input A, B, C, D, FCI, output F, FCO);
    parameter [15:0] INITVAL = 16'h0;
    parameter CCU2_INJECT1 = "NO";
    wire four = INITVAL[{D, C, B, A}];
    wire two = INITVAL[{2'b00, B, A}];
    assign F = four ^ (CCU2_INJECT1 == "YES" ? 1'b0 : FCI);
    assign FCO = four ? FCI : (CCU2_INJECT1 == "YES" ? 1'b0 : two);
endmodule

// 18 x 18 bits without its registers. Each operand is signed if its pin says so.
module MULT18X18D (
    input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0, B17, B16, B15, B14,
        B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input SIGNEDA, SIGNEDB,
    output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18, P17, P16,
        P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
    wire [17:0] a = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
    wire [17:0] b = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
    wire signed [35:0] wide_a = {{18{a[17] & SIGNEDA}}, a};
    wire signed [35:0] wide_b = {{18{b[17] & SIGNEDB}}, b};
    wire signed [35:0] product = wide_a * wide_b;
    assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
        P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = product;
endmodule

// A memory of 18 Kibit that is written by port A and read by port B on one clock, in words of equal size; all is 0 at
// first, what is read too. In words of 18 or 36 bits the lowest address pins of A enable bytes of 9 bits. What a read of
// the word being written gives is undefined; here it is, as in hdl/sram.v, the old data inverted. Words of 36 bits take
// the data pins of both ports, the low half those of A: so Yosys maps to them (brams_map_16kd.v). Other words are read
// on the pins of B.
module DP16KD (
    input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2,
        DIA1, DIA0, ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
        DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2,
        DIB1, DIB0, ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
    input CLKA, CEA, WEA, CSA0, CSA1, CSA2, CLKB, CEB, CSB0, CSB1, CSB2,
    output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3,
        DOA2, DOA1, DOA0, DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
        DOB4, DOB3, DOB2, DOB1, DOB0
);
    parameter DATA_WIDTH_A = 18;
    parameter DATA_WIDTH_B = 18;
    localparam W = DATA_WIDTH_B;
    localparam LOW = W == 36 ? 5 : W == 18 ? 4 : W == 9 ? 3 : W == 4 ? 2 : W == 2 ? 1 : 0;
    localparam BYTES = W < 9 ? 1 : W / 9;
    localparam BYTE = W < 9 ? W : 9;

    reg [W-1:0] mem [0:(1 << (14-LOW))-1];
    integer k;
    reg [W-1:0] word = 0;
    initial for (k = 0; k < (1 << (14-LOW)); k = k + 1) mem[k] = 0;

    wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
    wire [13:0] adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
    wire [35:0] di = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4,
        DIB3, DIB2, DIB1, DIB0, DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9,
        DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
    wire [13-LOW:0] w_addr = ada[13:LOW];
    wire [13-LOW:0] r_addr = adb[13:LOW];
    wire [3:0] bytes = W < 18 ? 4'b0001 : W == 18 ? {2'b00, ada[1:0]} : ada[3:0];
    wire [3:0] w_en = CEA && WEA && {CSA0, CSA1, CSA2} == 0 ? bytes : 4'b0000;
    integer lane;
    /* verilator lint_off BLKSEQ */
    always @(posedge CLKA) begin
        if (CEB && {CSB0, CSB1, CSB2} == 0) word <= mem[r_addr] ^ {W{|w_en && r_addr == w_addr}};
        for (lane = 0; lane < BYTES; lane = lane + 1)
            if (w_en[lane]) mem[w_addr][lane*BYTE +: BYTE] = di[lane*BYTE +: BYTE];
    end
    /* verilator lint_on BLKSEQ */
    assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4,
        DOB3, DOB2, DOB1, DOB0, DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9,
        DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} = word << (W == 36 ? 0 : 18);
endmodule
