// SPDX-License-Identifier: Apache-2.0
// Top of a J3DAI simulation: the SoC with its monitors. See hdl/j3dai/soc.py for the probes.
module j3dai_tb #(
    parameter CLUSTERS = 6,
    parameter WORD_BITS = 128,
    parameter BANKS = 8
) (
    input                         clk,
    input                         rst,
    input                         frame,
    input                         monitor_enable,
    input                         monitor_l1,  // record what the clusters' results write to L1, too
    output [31:0]                 frames_done,
    output [31:0]                 error,
    output                        trap,
    output [31:0]                 lists_done,
    output [31:0]                 step,  // the list that this cycle belongs to: those done before it; ones in reset
    output                        stopped,  // every frame asked for is done, or a trap or an error
    output [63:0]                 probe_cycle,
    output [(CLUSTERS+2)*192-1:0] probe_counters,
    output [895:0]                probe_transfers,
    output [CLUSTERS-1:0]         probe_running,
    output [CLUSTERS-1:0]         probe_armed,
    output [8:0]                  probe_trap,
    output [CLUSTERS*32-1:0]      probe_cluster,
    output [39:0]                 probe_dmpa,
    output                        probe_host_sleeping,
    output [31:0]                 probe_host_pc
);
    wire                l2_we, l2_re, list_done;
    wire [19:0]         l2_addr;
    wire [BANKS-1:0]    l2_mask;
    wire [WORD_BITS*BANKS-1:0] l2_data;
    wire [2:0]          l2_sources;
    wire [31:0]         list;
    wire [CLUSTERS-1:0] wr_valid, drain_ahead;
    wire [1:0]          wr_space;
    wire [2:0]          host_state;
    wire [CLUSTERS*8-1:0] lost;

    reg [31:0] frames_asked;
    always @(posedge clk) frames_asked <= rst ? 0 : frames_asked + {31'b0, frame};
    wire over = (frames_asked != 0 && frames_asked == frames_done) || trap || error != 0;
    reg over_q;  // a cycle later: the monitors have recorded the end by then
    always @(posedge clk) over_q <= over;
    assign stopped = over && over_q;

    // Logic that depends on an input port is evaluated at each change of any input, the clock's two edges included:
    // from a register, reset costs nothing. A frame requested in the cycle of the delay is kept for the next.
    reg rst_q, frame_q;
    always @(posedge clk) begin
        rst_q <= rst;
        frame_q <= frame & rst_q & ~rst;
    end
    wire asked = frame | frame_q;
    assign step = rst_q ? ~0 : lists_done + {31'b0, list_done};

    j3dai_soc soc (
        .clk(clk), .rst(rst_q), .frame(asked), .frames_done(frames_done), .error(error), .trap(trap),
        .lists_done(lists_done), .probe_cycle(probe_cycle),
        .probe_l2_re(l2_re), .probe_l2_we(l2_we), .probe_l2_addr(l2_addr), .probe_l2_mask(l2_mask),
        .probe_l2_data(l2_data), .probe_l2_sources(l2_sources),
        .probe_list(list), .probe_list_done(list_done), .probe_counters(probe_counters),
        .probe_transfers(probe_transfers),
        .probe_wr_valid(wr_valid), .probe_wr_space(wr_space), .probe_drain_ahead(drain_ahead),
        .probe_running(probe_running), .probe_armed(probe_armed), .probe_trap(probe_trap),
        .probe_cluster(probe_cluster), .probe_dmpa(probe_dmpa),
        .probe_host_sleeping(probe_host_sleeping), .probe_host_pc(probe_host_pc), .probe_host_state(host_state),
        .probe_lost(lost)
    );

    j3dai_monitors #(.CLUSTERS(CLUSTERS), .WORD_BITS(WORD_BITS), .BANKS(BANKS)) monitors (
        .clk(clk), .rst(rst | rst_q), .enable(monitor_enable), .cycle(probe_cycle),
        .l2_we(l2_we), .l2_addr(l2_addr), .l2_mask(l2_mask), .l2_data(l2_data), .l2_sources(l2_sources),
        .list(list), .list_done(list_done), .counters(probe_counters),
        .transfers(probe_transfers),
        .wr_valid(wr_valid), .wr_space(wr_space), .drain_ahead(drain_ahead), .frames_done(frames_done), .frame(asked),
        .running(probe_running), .cluster(probe_cluster), .dmpa(probe_dmpa[31:0]), .host_state(host_state),
        .lost(lost)
    );

    j3dai_l1_taps l1_taps (
        .clk(clk), .rst(rst | rst_q), .wanted(monitor_l1), .cycle(probe_cycle), .wr_valid(wr_valid),
        .wr_space(wr_space), .running(probe_running)
    );
endmodule
