// SPDX-License-Identifier: Apache-2.0
// Top of a simulation of the AIE-ML-like array: configuration, words for the shim's streams, and monitors.

// What one stream of the shim brings: `words[0]` of them, begun again with every inference.
module aie_ml_feeder #(
    parameter DEPTH = 2,
    parameter WORD = 32
) (
    input         clk,
    input         rst,
    input         begin_now,
    input         gap,  // nothing is offered in this cycle, unless something waits already
    output        valid,
    output [WORD-1:0] payload,
    input         ready
);
    reg [WORD-1:0] words [0:DEPTH-1];
    reg [31:0] at, left;
    reg        waits;
    assign valid = left != 0 && (waits || !gap);
    assign payload = words[at[$clog2(DEPTH)-1:0]];
    always @(posedge clk) begin
        waits <= valid && !ready;
        if (rst) left <= 0;
        else if (begin_now) begin
            at <= 1;
            left <= words[0][31:0];
            waits <= 0;
        end else if (valid && ready) begin
            at <= at + 1;
            left <= left - 1;
        end
    end
endmodule

module aie_ml_array_tb #(
    parameter COLUMNS = 1,
    parameter ROWS = 1,
    parameter MEMORY_ROWS = 0,
    parameter WORD = 32,  // bits of a word of a stream, and of a beat
    parameter BEAT = 256,
    parameter FEEDER_DEPTH = 2,
    parameter CONFIG_DEPTH = 2
) (
    input         clk,
    input         rst,
    input         start,
    input  [31:0] config_writes,  // how many of `config_words` there are
    input  [31:0] settle,  // cycles from the last of them to the first inference
    input  [31:0] result_words,  // that end an inference; 0: it ends when no core runs any more
    input  [31:0] gap_seed,  // 0: words are offered, and taken, as fast as can be
    output        stopped,
    output [63:0] probe_cycle,
    output [63:0] probe_config,  // cycles that the configuration took
    output [31:0] probe_results,  // words of this inference that have come out
    output [63:0] probe_since,  // cycles of this inference; ones before the first
    output [31:0] probe_inferences,  // that have ended; ones in reset
    output        lock_fault,  // a lock has left its range: the run ends
    output        hazard  // a tile's monitor has something to say (aie_ml_hazards.sv): the run ends
);
    `include "eventlog.svh"

    localparam TILES = COLUMNS * ROWS;
    localparam IN = COLUMNS * 6;
    localparam OUT = COLUMNS * 4;
    localparam STREAM_STORE = 1;
    localparam STREAM_DONE = 2;
    localparam STREAM_RESULT = 3;
    localparam STREAM_STATE = 4;
    localparam STREAM_LOCK_FAULT = 6;
    localparam PLACES = TILES + COLUMNS * MEMORY_ROWS;

`ifdef AIE_ML_HAZARDS
    import "DPI-C" function int aie_ml_hazards();
    reg found;
    always @(posedge clk) found <= !rst && aie_ml_hazards() != 0;
    assign hazard = found;
`else
    assign hazard = 0;
`endif

    // From registers, see tb/j3dai/j3dai_tb.sv: logic that depends on an input is evaluated at both edges.
    reg rst_q, start_q;
    always @(posedge clk) begin
        rst_q <= rst;
        start_q <= start;
    end

    wire [IN-1:0]        in_valid, in_ready;
    wire [WORD*IN-1:0]   in_payload;
    wire [OUT-1:0]       out_valid, out_ready;
    wire [WORD*OUT-1:0]  out_payload;
    wire [TILES-1:0]     store, busy, issue;
    wire [PLACES-1:0]    fault;  // of core tiles, then of memory tiles
    wire [12*TILES-1:0]  store_beat;  // of the west neighbour's memory behind the own
    wire [BEAT*TILES-1:0] store_data;  // of the array's columns, which have a port each: `STORE_DATA_PORTS
    wire [3*TILES-1:0]   waits;
    wire [10*TILES-1:0]  pc;
    reg                  bus_valid;
    wire [63:0]          bus_write;
    aie_ml_array array (
        .clk(clk), .rst(rst_q), .bus__valid(bus_valid), .bus__write(bus_write[59:0]), .in_valid(in_valid),
        .in_payload(in_payload), .in_ready(in_ready), .out_valid(out_valid), .out_payload(out_payload),
        .out_ready(out_ready), .store(store), .store_beat(store_beat), `STORE_DATA_PORTS, .busy(busy),
        .issue(issue), .waits(waits), .pc(pc), .fault(fault)
    );

    // First the configuration, once; then inferences.
    localparam CONFIG_BITS = $clog2(CONFIG_DEPTH);
    reg        configured, configuring, running, begin_now;
    reg [31:0] at, drained;
    nncosim_sram #(.DEPTH(CONFIG_DEPTH), .WIDTH(64), .PORTS(1)) config_words (
        .clk(clk), .r_en(configuring), .r_addr(at[CONFIG_BITS-1:0]), .r_data(bus_write), .w_en(1'b0), .w_addr({CONFIG_BITS{1'b0}}),
        .w_data(64'b0)
    );
    wire reading = configuring && at < config_writes;
    always @(posedge clk) begin
        begin_now <= 0;
        bus_valid <= reading;
        if (rst || rst_q) begin
            configured <= 0;
            configuring <= 0;
            bus_valid <= 0;
        end else if (start_q && configured) begin_now <= 1;
        else if (start_q) begin
            configuring <= 1;
            at <= 0;
            drained <= 0;
        end else if (reading) at <= at + 1;
        else if (configuring) begin
            drained <= drained + 1;
            if (drained == settle) begin
                configuring <= 0;
                configured <= 1;
                begin_now <= 1;
            end
        end
    end

    // A different bit for each stream in each cycle: multiply, and take high bits.
    reg  [31:0] noise;
    genvar k;
    generate
        for (k = 0; k < IN; k = k + 1) begin : feed
            wire [31:0] mixed = (noise ^ k * 32'h9E3779B9) * 32'h85EBCA6B;
            aie_ml_feeder #(.DEPTH(FEEDER_DEPTH), .WORD(WORD)) feeder (
                .clk(clk), .rst(rst || rst_q), .begin_now(begin_now), .gap(gap_seed != 0 && mixed[31:30] != 0),
                .valid(in_valid[k]), .payload(in_payload[WORD*k +: WORD]), .ready(in_ready[k])
            );
        end
        for (k = 0; k < OUT; k = k + 1) begin : take
            wire [31:0] mixed = (noise ^ k * 32'hC2B2AE35 ^ 32'h27D4EB2F) * 32'h85EBCA6B;
            assign out_ready[k] = running && !(gap_seed != 0 && mixed[31:30] != 0);
        end
    endgenerate

    reg [63:0] cycle, since, config_cycles;
    reg [31:0] results, inferences;
    assign probe_cycle = cycle;
    assign probe_config = config_cycles;
    assign probe_results = results;
    assign probe_since = since;
    assign probe_inferences = rst || rst_q ? ~0 : inferences;
    // Monitors of tiles come a cycle later.
    reg        watching, ran;
    reg [63:0] since_seen;
    wire ended = configured && !running && !watching && !begin_now && !start && !start_q && !rst_q && !rst;
    assign stopped = ended || hazard || lock_fault;
    integer i;
    reg [3*TILES-1:0] state, state_now;
    reg [31:0]        taken;
    reg [PLACES-1:0]  faulted;  // since reset
    assign lock_fault = |faulted;
    always @* begin
        // 0 idle, 1 issues, 2 waits for memory, 3 for a lock, 4 for a cascade, 5 busy without an instruction
        for (i = 0; i < TILES; i = i + 1)
            state_now[3*i +: 3] = issue[i] ? 1 : waits[3*i] ? 2 : waits[3*i+2] ? 4 : waits[3*i+1] ? 3 : busy[i] ? 5 : 0;
        taken = 0;
        for (i = 0; i < OUT; i = i + 1) taken = taken + {31'b0, out_valid[i] && out_ready[i]};
    end
    always @(posedge clk) begin
        noise <= rst_q ? gap_seed : {noise[30:0], noise[31] ^ noise[21] ^ noise[1] ^ noise[0]};
        cycle <= rst_q ? 0 : cycle + 1;
        config_cycles <= rst_q ? 0 : config_cycles + {63'b0, configuring};
        if (rst || rst_q) begin  // before reset, registers hold anything
            running <= 0;
            since <= ~0;
            results <= 0;
            inferences <= 0;
        end else if (begin_now) begin
            ran <= 0;
            running <= 1;
            since <= 0;
            results <= 0;
        end else if (running) begin
            // `since`: cycles since words were offered first.
            since <= since + 1;
            for (i = 0; i < OUT; i = i + 1)
                if (out_valid[i] && out_ready[i])
                    nncosim_log4(STREAM_RESULT, since, {32'b0, i}, {{(64-WORD){1'b0}}, out_payload[WORD*i +: WORD]}, 64'b0);
            results <= results + taken;
            ran <= ran || |busy;
            if (result_words != 0 ? results + taken == result_words : ran && !(|busy)) begin
                running <= 0;
                inferences <= inferences + 1;
                nncosim_log4(STREAM_DONE, since + 1, config_cycles, cycle, 64'b0);
            end
        end
        watching <= running && !rst && !rst_q;
        since_seen <= since;
        if (watching && !rst && !rst_q) begin
            for (i = 0; i < TILES; i = i + 1) begin
                if (store[i])
                    nncosim_log(STREAM_STORE, 4 + BEAT / 32, {{(1920-BEAT){1'b0}}, store_data[BEAT*i +: BEAT],
                                                              {20'b0, store_beat[12*i +: 12]}, i, since_seen});
                if (state_now[3*i +: 3] != state[3*i +: 3] || since_seen == 0)
                    nncosim_log4(STREAM_STATE, since_seen, {32'b0, i}, {61'b0, state_now[3*i +: 3]},
                                 {54'b0, pc[10*i +: 10]});
            end
        end
        state <= state_now;
        faulted <= rst || rst_q ? 0 : faulted | fault;
        for (i = 0; i < PLACES; i = i + 1)
            if (fault[i] && !faulted[i] && !rst && !rst_q)
                nncosim_log4(STREAM_LOCK_FAULT, watching ? since_seen : ~64'b0, {32'b0, i}, 64'b0, 64'b0);
    end
endmodule
