// SPDX-License-Identifier: Apache-2.0
// Does a core's program keep the latencies of MANUAL.md, and does the core itself? Bound into each core tile.
//
// The instructions that are issued are read here, and by the manual's table alone it is known which registers they read
// and write, and when. That is held against what happens at the write ports of the register files. A record in the event
// log (hazards.py) for each register that
//   EARLY     is read n cycles before a write arrives that an earlier instruction makes, where `meant` does not say so;
//   TWO       two writes reach in one cycle;
//   MISSING   is not written in the cycle in which the manual has it written;
//   SOON      is written n cycles before that, or (0) though no instruction writes it then;
//   STANDING  is written while the core stands still.
// All cycles are those in which the core advances. Pointers and settings hold from the next cycle on: nothing of them is
// ever in flight. A load of a beat that the instruction before it stores is early, too (memory is written in t+6, and
// read in t+4).
//
// Fields and codes of instructions are macros, made of isa.py: `load_a_vector is "1 +: 5".
/* verilator tracing_off */
module aie_ml_hazards (
    input         clk,
    input         rst,
    input [5:0]   column,
    input [3:0]   row,
    input         advance,
    input         issue,
    input [9:0]   pc,
    input [127:0] word,
    input [3:0]   vector_write,  // ports of the register files: vectors, low and high halves of accumulators
    input [19:0]  vector_to,
    input [2:0]   low_write,
    input [11:0]  low_to,
    input [2:0]   high_write,
    input [11:0]  high_to,
    input [15:0]  load_a_at,  // what pointers hold
    input [15:0]  load_b_at,
    input [15:0]  store_at
);
    `include "eventlog.svh"

    localparam STREAM_HAZARD = 5;
    localparam EARLY = 0, TWO = 1, MISSING = 2, SOON = 3, STANDING = 4;
    // From an issue to when an instruction may read the result. A MAC reads its accumulator so many cycles late.
    localparam LOAD = 7, GET = 7, MAC = 5, SRS = 4, BIAS = 3, MAX = 2, MAC_READS = 2;
    localparam LONGEST = 7;

    // Sets of registers: w0.. from bit 0 on, low halves of cm0.. from bit 32, high halves from bit 48. Bits 24 and 25
    // stand for the beats that load a and b read.
    localparam VECTORS = 24, ACCUMULATORS = 9, BEAT_A = 24, BEAT_B = 25;

    function automatic bit [63:0] vector(input bit [4:0] number);
        vector = number < VECTORS ? 64'd1 << number : 64'd0;
    endfunction

    function automatic bit [63:0] halves(input bit [3:0] number, input bit [1:0] which);
        halves = number < ACCUMULATORS ? ({63'd0, which[0]} << 32 | {63'd0, which[1]} << 48) << number : 64'd0;
    endfunction

    // What a shift-round-saturate takes of an accumulator.
    function automatic bit [63:0] requantized(input bit [4:0] number, input bit [1:0] form, input bit half);
        requantized = halves(number[3:0], form == `Form_ACC32_16 || form == `Form_ACC64_32 ? 2'd1 << half : 2'd3);
    endfunction

    // Registers that an instruction writes so many cycles after its issue.
    function automatic bit [63:0] written(input bit [127:0] w, input integer cycles);
        written = 0;
        if (cycles == LOAD && w[`load_a_valid]) written |= vector(w[`load_a_vector]);
        if (cycles == LOAD && w[`load_b_valid]) written |= vector(w[`load_b_vector]);
        if (cycles == GET && w[`move_op] == `MoveOp_GET) written |= halves(w[`move_dest], 2'd1 << w[`move_half]);
        if (cycles == MAC && w[`vector_op] != `Mac_NONE) written |= halves(w[`vector_acc], 2'd3);
        if (cycles == SRS && w[`move_op] == `MoveOp_SRS) written |= vector(w[`move_dest]);
        if (cycles == BIAS && w[`move_op] == `MoveOp_BIAS) written |= halves(w[`move_dest], 2'd3);
        if (cycles == MAX && w[`move_op] == `MoveOp_MAX) written |= vector(w[`move_dest]);
    endfunction

    // Registers that it reads in the cycle of its issue.
    function automatic bit [63:0] read(input bit [127:0] w);
        read = 0;
        if (w[`vector_op] != `Mac_NONE) read |= vector(w[`vector_a]) | vector(w[`vector_b]);
        if (w[`vector_op] == `Mac_I8X8) read |= vector(w[`vector_b] + 5'd1);
        if (w[`store_op] == `StoreOp_VST_SRS) read |= requantized(w[`store_source], w[`store_form], w[`store_half]);
        else if (w[`store_op] != `StoreOp_NONE) read |= vector(w[`store_source]);
        case (w[`move_op])
            `MoveOp_BIAS, `MoveOp_MAX: read |= vector(w[`move_source]);
            `MoveOp_SRS: read |= requantized(w[`move_source], w[`move_form], w[`move_half]);
            `MoveOp_PUT: read |= halves(w[`move_source], 2'd1 << w[`move_half]);
            default: ;
        endcase
    endfunction

    // Early reads that are meant: of each program counter, and cycles that they come too early, the registers.
    reg [63:0] meant [0:8191];

    // The instructions before, and what is written at the end of a cycle to come, by cycles modulo 8. They are read in
    // this module's one process only, which assigns them at once: that is the fastest to simulate.
    reg [2:0]   now;
    reg [127:0] past [0:7];
    reg [9:0]   past_pc [0:7];
    reg [63:0]  due [0:7];
    reg         stored;  // whether the instruction before stores, and where
    reg [15:0]  stored_at;
    reg [2:0]   left;  // cycles until nothing is in flight
    reg [63:0]  cycle;
    reg         awake = 0;  // before reset, registers hold anything

    task automatic report(input integer kind, input integer register_, input integer cycles, input integer back);
        bit [2:0] writer;
        writer = now - back[2:0];
        nncosim_log(STREAM_HAZARD, 16, {1536'd0, back != 0 ? past[writer] : 128'd0, word,
                                        back != 0 ? {22'd0, past_pc[writer]} : ~32'd0, cycles, register_,
                                        {22'd0, pc}, {12'd0, row}, {10'd0, column}, kind, cycle});
    endtask

    // How many cycles ago the youngest instruction was issued that writes a register `ahead` cycles from now; 0: none.
    function automatic integer writer_of(input integer register_, input integer ahead);
        bit [63:0] makes;
        writer_of = 0;
        for (integer k = LONGEST - 1; k >= 1; k = k - 1) begin
            makes = written(past[now - k[2:0]], k + ahead + 1);
            if (makes[register_]) writer_of = k;
        end
    endfunction

    task automatic each_of(input bit [63:0] registers, input integer kind, input integer cycles, input integer ahead);
        for (integer k = 0; k < 64; k = k + 1)
            if (registers[k]) report(kind, k, cycles, k == BEAT_A || k == BEAT_B ? 1 : writer_of(k, ahead));
    endtask

    // Of registers that are read `late` cycles after the issue.
    task automatic check_reads(input bit [63:0] reads, input integer late);
        bit [63:0] early;
        integer    cycles;
        for (integer k = late; k < LONGEST - 1; k = k + 1) begin
            early = reads & due[now + k[2:0]];
            cycles = k + 1 - late;
            if (early != 0) early &= ~meant[{pc, cycles[2:0]}];
            if (early != 0) each_of(early, EARLY, cycles, k);
        end
    endtask

    task automatic check_beats;
        bit [63:0] beats;
        beats = 0;
        beats[BEAT_A] = word[`load_a_valid] && load_a_at == stored_at;
        beats[BEAT_B] = word[`load_b_valid] && load_b_at == stored_at;
        each_of(beats & ~meant[{pc, 3'd1}], EARLY, 1, 0);
    endtask

    task automatic check_writes(input bit [63:0] arrives);
        bit [63:0] rest;
        each_of(due[now] & ~arrives, MISSING, 0, 0);
        rest = arrives & ~due[now];
        for (integer k = 1; k < LONGEST - 1; k = k + 1) begin
            each_of(rest & due[now + k[2:0]], SOON, k, k);
            rest &= ~due[now + k[2:0]];
        end
        each_of(rest, SOON, 0, LONGEST);
    endtask

    // Registers that are written at the end of this cycle, as the ports have it.
    task automatic arriving(output bit [63:0] arrives);
        bit [63:0] twice, one;
        arrives = 0;
        twice = 0;
        for (integer k = 0; k < 4; k = k + 1)
            if (vector_write[k]) begin
                one = vector(vector_to[5 * k +: 5]);
                twice |= arrives & one;
                arrives |= one;
            end
        for (integer k = 0; k < 3; k = k + 1)
            if (low_write[k] || high_write[k]) begin
                one = halves(low_to[4 * k +: 4], {1'b0, low_write[k]})
                    | halves(high_to[4 * k +: 4], {high_write[k], 1'b0});
                twice |= arrives & one;
                arrives |= one;
            end
        if (twice != 0) each_of(twice, TWO, 0, 0);
    endtask

    task automatic issued;
        check_reads(read(word), 0);
        if (word[`vector_op] != `Mac_NONE && !word[`vector_clear]) check_reads(halves(word[`vector_acc], 2'd3), MAC_READS);
        if (stored && (word[`load_a_valid] || word[`load_b_valid])) check_beats;
        due[now + 3'(LOAD - 1)] |= written(word, LOAD);  // and GET
        due[now + 3'(MAC - 1)] |= written(word, MAC);
        due[now + 3'(SRS - 1)] |= written(word, SRS);
        due[now + 3'(BIAS - 1)] |= written(word, BIAS);
        due[now + 3'(MAX - 1)] |= written(word, MAX);
        past[now] = word;
        past_pc[now] = pc;
        stored = word[`store_op] != `StoreOp_NONE;
        stored_at = store_at;
        left = LONGEST;
    endtask

    always @(posedge clk) begin
        bit        writes;
        bit [63:0] arrives;
        writes = vector_write != 0 || low_write != 0 || high_write != 0;
        if (rst) begin
            awake = 1;
            now = 0;
            left = 0;
            stored = 0;
            for (integer k = 0; k < 8; k = k + 1) begin
                past[k] = 0;
                due[k] = 0;
            end
        end else if (awake && (issue || writes || left != 0)) begin
            arrives = 0;
            if (writes) arriving(arrives);
            if (!advance) begin
                if (writes) each_of(arrives, STANDING, 0, LONGEST);
            end else begin
                past[now] = 0;
                if (left != 0) left = left - 1;
                if (issue) issued;
                else stored = 0;
                if (arrives != due[now]) check_writes(arrives);
                due[now] = 0;
                now = now + 1;
            end
        end
        cycle = rst ? 0 : cycle + 1;
    end
endmodule

bind aie_ml_tile aie_ml_hazards hazards (
    .clk(clk), .rst(rst), .column(column), .row(row),
    .advance(tile.core.advance), .issue(tile.core.issue), .pc(tile.core.issued_pc), .word(tile.core.fetch.instruction),
    .vector_write({tile.core.vectors.write__3, tile.core.vectors.write__2, tile.core.vectors.write__1,
                   tile.core.vectors.write__0}),
    .vector_to({tile.core.vectors.write_to__3, tile.core.vectors.write_to__2, tile.core.vectors.write_to__1,
                tile.core.vectors.write_to__0}),
    .low_write({tile.core.accumulators.low.write__2, tile.core.accumulators.low.write__1,
                tile.core.accumulators.low.write__0}),
    .low_to({tile.core.accumulators.low.write_to__2, tile.core.accumulators.low.write_to__1,
             tile.core.accumulators.low.write_to__0}),
    .high_write({tile.core.accumulators.high.write__2, tile.core.accumulators.high.write__1,
                 tile.core.accumulators.high.write__0}),
    .high_to({tile.core.accumulators.high.write_to__2, tile.core.accumulators.high.write_to__1,
              tile.core.accumulators.high.write_to__0}),
    .load_a_at(tile.core.agus.at__0), .load_b_at(tile.core.agus.at__1), .store_at(tile.core.agus.at__2)
);
