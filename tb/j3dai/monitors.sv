// SPDX-License-Identifier: Apache-2.0
// Monitors of the J3DAI SoC: what was written to L2, when lists were done, and whether the rules of the ports hold.
// Records go to the event log (streams and layouts as in build.py); a broken rule stops the simulation.

module j3dai_monitors #(
    parameter CLUSTERS = 6
) (
    input                             clk,
    input                             rst,
    input                             enable,
    input [63:0]                      cycle,
    input                             l2_we,
    input [19:0]                      l2_addr,
    input [7:0]                       l2_mask,
    input [1023:0]                    l2_data,
    input [2:0]                       l2_sources,
    input [31:0]                      list,
    input                             list_done,
    input [(CLUSTERS+2)*192-1:0]      counters,
    input [CLUSTERS-1:0]              wr_valid,
    input [1:0]                       wr_space,
    input [CLUSTERS-1:0]              drain_ahead,
    input [31:0]                      frames_done,
    input                             frame
);
    `include "eventlog.svh"

    localparam STREAM_L2_WRITE = 1;
    localparam STREAM_LIST_DONE = 2;
    localparam STREAM_FRAME_DONE = 3;
    localparam STREAM_COUNTERS = 4;
    localparam ENGINES = CLUSTERS + 2;
    localparam COUNTER_WORDS = 2 + 6 * ENGINES;

    reg [31:0] lists, frames;
    reg [CLUSTERS-1:0] drain1, drain2, drain3;  // drain_ahead one to three cycles ago

    always @(posedge clk) begin
        drain1 <= drain_ahead;
        drain2 <= drain1;
        drain3 <= drain2;
        if (rst) begin
            lists <= 0;
            frames <= 0;
            drain1 <= 0;
            drain2 <= 0;
            drain3 <= 0;
        end else if (enable) begin
            // L2 writes: cycle, list index, address and mask, data.
            if (l2_we)
                nncosim_log(STREAM_L2_WRITE, 37, {864'b0, l2_data, 24'b0, l2_mask, 12'b0, l2_addr, list, cycle});
            // Completion of a list, and of a frame, with the counters of all engines up to it.
            if (list_done) begin
                nncosim_log4(STREAM_LIST_DONE, cycle, {32'b0, lists}, 0, 0);
                lists <= lists + 1;
            end
            if (frames_done != frames) begin
                nncosim_log4(STREAM_FRAME_DONE, cycle, {32'b0, frames_done}, 0, 0);
                frames <= frames_done;
            end
            if (list_done || frame || frames_done != frames) begin
                nncosim_log(STREAM_COUNTERS, COUNTER_WORDS, {{2048 - 32 * COUNTER_WORDS{1'b0}}, counters, cycle});
                check_counters;
            end
            if (cycle[9:0] == 0) check_counters;

            if (l2_sources[0] + l2_sources[1] + l2_sources[2] > 2'd1)
                $error("checker error: cycle %0d: L2's port is used by %b (STORE, fetch, LOAD)", cycle, l2_sources);
            if (wr_space == 0 && (wr_valid & drain3) != 0)
                $error("checker error: cycle %0d: a LOAD beat meets a drain in L1 of clusters %b", cycle,
                       wr_valid & drain3);
        end
    end

    // Each engine's counters add up to the cycles since reset, less the one that they are late.
    task check_counters;
        for (integer engine = 0; engine < ENGINES; engine = engine + 1) begin
            reg [31:0] sum;
            sum = 0;
            for (integer k = 0; k < 6; k = k + 1) sum = sum + counters[(engine * 6 + k) * 32 +: 32];
            if (sum + 1 != cycle[31:0] && cycle != 0)
                $error("checker error: cycle %0d: the counters of engine %0d add up to %0d", cycle, engine, sum);
        end
    endtask
endmodule
