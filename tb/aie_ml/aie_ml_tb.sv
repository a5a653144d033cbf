// SPDX-License-Identifier: Apache-2.0
// Top of a simulation of the AIE-ML-like tile, with its monitors: each store, and the end of each inference.
module aie_ml_tb (
    input         clk,
    input         rst,
    input         start,
    output        stopped,  // nothing runs
    output [63:0] probe_cycle,
    output [31:0] probe_stores,  // of this inference
    output [31:0] probe_inferences,  // that have ended; ones in reset
    output        probe_issue,
    output [9:0]  probe_pc
);
    `include "eventlog.svh"

    localparam STREAM_STORE = 1;
    localparam STREAM_DONE = 2;

    // From registers, see tb/j3dai/j3dai_tb.sv: logic that depends on an input is evaluated at both edges.
    reg rst_q, start_q;
    always @(posedge clk) begin
        rst_q <= rst;
        start_q <= start;
    end

    wire         busy, issue, stalled, store;
    wire [9:0]   issued_pc;
    wire [10:0]  store_beat;
    wire [255:0] store_data;
    aie_ml_tile tile (
        .clk(clk), .rst(rst_q), .start(start_q), .busy(busy), .issue(issue), .issued_pc(issued_pc), .stalled(stalled),
        .store(store), .store_beat(store_beat), .store_data(store_data)
    );

    reg        running;
    reg [63:0] cycle, since;
    reg [31:0] issued, stalls, stores, inferences;
    assign probe_stores = stores;
    assign probe_inferences = rst || rst_q ? ~0 : inferences;
    assign stopped = !running && !start && !start_q && !rst_q;
    assign probe_cycle = cycle;
    assign probe_issue = issue;
    assign probe_pc = issued_pc;
    always @(posedge clk) begin
        cycle <= rst_q ? 0 : cycle + 1;
        if (rst || rst_q) begin  // before reset, registers hold anything
            running <= 0;
            stores <= 0;
            inferences <= 0;
        end else if (start_q) begin
            running <= 1;
            stores <= 0;
            since <= 0;
            issued <= 0;
            stalls <= 0;
        end else if (running) begin
            // `since`: cycles since the tile was told to start, this one included.
            since <= since + 1;
            issued <= issued + {31'b0, issue};
            stalls <= stalls + {31'b0, stalled};
            stores <= stores + {31'b0, store};
            if (store)
                nncosim_log(STREAM_STORE, 13, {1632'b0, store_data, stalls, issued, {21'b0, store_beat}, since});
            if (!busy) begin
                running <= 0;
                inferences <= inferences + 1;
                nncosim_log4(STREAM_DONE, since, {32'b0, issued}, {32'b0, stalls}, cycle);
            end
        end
    end
endmodule
