// SPDX-License-Identifier: Apache-2.0
// Monitors of the J3DAI SoC: what was written to L2, when lists were done, what each engine did when, and whether the
// rules of the ports hold.
// Records go to the event log (streams and layouts as in build.py); a broken rule stops the simulation.

module j3dai_monitors #(
    parameter CLUSTERS = 6,
    parameter WORD_BITS = 128,
    parameter BANKS = 8,
    parameter LOAD_TO_CLUSTER = 4
) (
    input                             clk,
    input                             rst,
    input                             enable,
    input [63:0]                      cycle,
    input                             l2_we,
    input [19:0]                      l2_addr,
    input [BANKS-1:0]                 l2_mask,
    input [WORD_BITS*BANKS-1:0]       l2_data,
    input [3:0]                       l2_sources,
    input [19:0]                      entry_addr,
    input [159:0]                     entry,
    input                             run,
    input [31:0]                      list,
    input                             list_done,
    input [(CLUSTERS+2)*192-1:0]      counters,
    input [895:0]                     transfers,
    input [CLUSTERS-1:0]              wr_valid,
    input [CLUSTERS-1:0]              drain_ahead,
    input [31:0]                      frames_done,
    input                             frame,
    input [CLUSTERS-1:0]              running,
    input [CLUSTERS*32-1:0]           cluster,
    input [31:0]                      dmpa,
    input [2:0]                       host_state,
    input [CLUSTERS*8-1:0]            lost
);
    `include "eventlog.svh"

    localparam STREAM_L2_WRITE = 1;
    localparam STREAM_LIST_DONE = 2;
    localparam STREAM_FRAME_DONE = 3;
    localparam STREAM_COUNTERS = 4;
    localparam STREAM_CHANGE = 5;
    localparam STREAM_L2_READ = 6;
    localparam STREAM_TRANSFERS = 7;
    localparam STREAM_ENTRY = 9;
    localparam STREAM_ENTRY_WRITE = 10;
    localparam ENGINES = CLUSTERS + 2;
    localparam BUSY = 3'd0, WAIT_DATA = 3'd1, WAIT_PORT = 3'd2, NO_STATE = 3'd7;  // see regs.py
    localparam LOAD = 0, STORE = 1, SYNC = 2, BEATS = 1, WAIT_SEMAPHORE = 4, WAIT_FOR_PORT = 6;
    // A long line is recorded in parts, as a record has room for no more: words of a part, and its bits.
    localparam PART = WORD_BITS * BANKS > 1024 ? 1024 / WORD_BITS : BANKS;
    localparam PART_BITS = PART * WORD_BITS;
    localparam COUNTER_WORDS = 2 + 6 * ENGINES;

    reg [31:0] lists, frames;
    wire completes = list_done || frame || frames_done != frames;
    reg run_q;
    reg [CLUSTERS*LOAD_TO_CLUSTER-1:0] drains;  // drain_ahead of so many cycles, the oldest in the highest bits
    wire [CLUSTERS-1:0] drain = drains[CLUSTERS*LOAD_TO_CLUSTER-1 -: CLUSTERS];

    always @(posedge clk) begin
        drains <= {drains[CLUSTERS*(LOAD_TO_CLUSTER-1)-1:0], drain_ahead};
        if (rst) begin
            lists <= 0;
            frames <= 0;
            run_q <= 0;
            drains <= 0;
        end else if (enable) begin
            // L2 writes: cycle, list index, address and mask, data.
            for (integer at = 0; at < BANKS; at = at + PART)
                if (l2_we && l2_mask[at +: PART] != 0)
                    nncosim_log(STREAM_L2_WRITE, 5 + PART_BITS / 32,
                                {{1888 - PART_BITS{1'b0}}, l2_data[at * WORD_BITS +: PART_BITS],
                                 {32 - PART{1'b0}}, l2_mask[at +: PART], 12'b0, l2_addr + at[19:0], list, cycle});
            // L2 reads of LOADs (line fetches of descriptors are not among them): cycle, address, mask.
            if (l2_sources[0]) nncosim_log4(STREAM_L2_READ, cycle, {44'b0, l2_addr}, {{64 - BANKS{1'b0}}, l2_mask}, 0);
            // The entry port: its words for L2 once the host runs, and its counters when the host begins, an inference is
            // asked for, or done.
            if (l2_sources[3] && run) nncosim_log4(STREAM_ENTRY_WRITE, cycle, {44'b0, entry_addr}, 0, 0);
            run_q <= run;
            if ((run && !run_q) || frame || frames_done != frames)
                nncosim_log(STREAM_ENTRY, 8, {1792'b0, 29'b0, frames_done != frames, frame, run && !run_q, entry, cycle});
            // Completion of a list, and of a frame.
            if (list_done) begin
                nncosim_log4(STREAM_LIST_DONE, cycle, {32'b0, lists}, 0, 0);
                lists <= lists + 1;
            end
            if (frames_done != frames) begin
                nncosim_log4(STREAM_FRAME_DONE, cycle, {32'b0, frames_done}, 0, 0);
                frames <= frames_done;
            end
            if (completes || cycle[9:0] == 0) check_counters;

            if ((l2_sources & (l2_sources - 4'd1)) != 0)
                $error("checker error: cycle %0d: L2's port is used by %b (entry, STORE, fetch, LOAD)", cycle,
                       l2_sources);
            if ((wr_valid & drain) != 0)
                $error("checker error: cycle %0d: a LOAD beat meets a drain in clusters %b", cycle,
                       wr_valid & drain);
            // A program that lets a semaphore run over has lost a word of its protocol, whatever comes of it.
            for (integer k = 0; k < CLUSTERS; k = k + 1) begin
                if (lost[8 * k +: 8] != 0)
                    $error("checker error: cycle %0d: cluster %0d signals output semaphores %b at 255: that is lost",
                           cycle, k, lost[8 * k +: 8]);
                if (cluster[32 * k + 23 +: 8] != 0)
                    $error("checker error: cycle %0d: input semaphores %b of cluster %0d are incremented at 255: that is lost",
                           cycle, cluster[32 * k + 23 +: 8], k);
            end
        end
    end

    // The counters of all engines in all cycles before the one in which a list or a frame is done or asked for: they are
    // a cycle late, so they are read in the middle of the next.
    // The first evaluation may count as a falling edge, before any rising one has set the register.
    reg due = 0;
    reg [63:0] due_at;
    always @(posedge clk) begin
        due <= !rst && enable && completes;
        due_at <= cycle;
    end
    always @(negedge clk)
        if (due) begin
            nncosim_log(STREAM_COUNTERS, COUNTER_WORDS, {{2048 - 32 * COUNTER_WORDS{1'b0}}, counters, due_at});
            nncosim_log(STREAM_TRANSFERS, 30, {1088'b0, transfers, due_at});
        end

    // What the engines did in the cycle before this one: the probes of that cycle, and the state that is registered in
    // this one. Bits as in activity.py; a change of the program counter alone is no change.
    localparam [31:0] DETAIL = 32'h0001ff00;
    reg [31:0] keys [0:ENGINES-1];
    reg [CLUSTERS-1:0] running_1;
    reg [CLUSTERS*32-1:0] cluster_1;
    reg [31:0] dmpa_1;

    always @(posedge clk) begin
        running_1 <= running;
        cluster_1 <= cluster;
        dmpa_1 <= dmpa;
        if (rst)
            for (integer k = 0; k < ENGINES; k = k + 1) keys[k] <= 32'hffffffff;
        else if (enable && host_state != NO_STATE) begin
            for (integer k = 0; k < CLUSTERS; k = k + 1) begin
                reg [31:0] was, key;
                was = cluster_1[32 * k +: 32];
                key = {27'b0, running_1[k], 4'b1000};
                if (!was[19]) key[3:0] = {1'b0, cluster[32 * k + 20 +: 3]};
                if (!was[19] && key[2:0] == WAIT_DATA) key[30:28] = was[17:15];
                if (((keys[k] ^ key) & ~DETAIL) != 0) record(k, key | {15'b0, was[8:0], 8'b0});
            end
            begin
                reg [31:0] key;
                key = {28'b0, dmpa_1[28], dmpa_1[28] ? 3'd0 : dmpa[31:29]};
                if (dmpa_1[28] || dmpa[31:29] == WAIT_DATA) key[27:8] = dmpa_1[19:0];
                if (!dmpa_1[28] && dmpa[31:29] == WAIT_DATA) key[30:28] = dmpa_1[26:24];
                if (keys[CLUSTERS] != key) record(CLUSTERS, key);
            end
            if (keys[CLUSTERS + 1] != {29'b0, host_state}) record(CLUSTERS + 1, {29'b0, host_state});
        end
    end

    task record(input integer engine, input [31:0] key);
        nncosim_log(STREAM_CHANGE, 10, {1728'b0, counters[engine * 192 +: 192], key, engine, cycle - 64'd1});
        keys[engine] <= key;
    endtask

    // Each engine's counters add up to the cycles since reset, less the one that they are late.
    function [31:0] transfer(input integer kind, input integer which);
        transfer = transfers[(kind * 7 + which) * 32 +: 32];
    endfunction

    task check_counters;
        for (integer engine = 0; engine < ENGINES; engine = engine + 1) begin
            reg [31:0] sum;
            sum = 0;
            for (integer k = 0; k < 6; k = k + 1) sum = sum + counters[(engine * 6 + k) * 32 +: 32];
            if (sum + 1 != cycle[31:0] && cycle != 0)
                $error("checker error: cycle %0d: the counters of engine %0d add up to %0d", cycle, engine, sum);
        end
        // What the DMPA did in all is what it did by kind of transfer: beats, waiting for semaphores, and for a port.
        if (counters[(CLUSTERS * 6 + BUSY) * 32 +: 32] != transfer(LOAD, BEATS) + transfer(STORE, BEATS)
            || counters[(CLUSTERS * 6 + WAIT_DATA) * 32 +: 32]
               != transfer(LOAD, WAIT_SEMAPHORE) + transfer(STORE, WAIT_SEMAPHORE) + transfer(SYNC, WAIT_SEMAPHORE)
            || counters[(CLUSTERS * 6 + WAIT_PORT) * 32 +: 32]
               != transfer(LOAD, WAIT_FOR_PORT) + transfer(STORE, WAIT_FOR_PORT))
            $error("checker error: cycle %0d: the DMPA's counters differ from those of its transfers", cycle);
    endtask
endmodule
