// SPDX-License-Identifier: Apache-2.0
// Top of a J3DAI simulation: the SoC with its monitors, and a sensor at its entry port. See hdl/j3dai/soc.py for the probes.
module j3dai_tb #(
    parameter CLUSTERS = 6,
    parameter WORD_BITS = 128,
    parameter BANKS = 8,
    parameter LOAD_TO_CLUSTER = 4,
    parameter SENSOR_BEATS = 1024
) (
    input                         clk,
    input                         rst,
    input                         frame,
    input                         boot,          // the host waits for the entry port's GO
    input  [31:0]                 sensor_limit,  // see sensor.sv
    input  [31:0]                 stop_at,       // inferences done at which to stop; 0: all that `frame` asked for
    input                         monitor_enable,
    input                         monitor_l1,  // record what the clusters' results write to L1, too
    output [31:0]                 frames_done,
    output [31:0]                 error,
    output                        trap,
    output [31:0]                 lists_done,
    output [31:0]                 step,  // the list that this cycle belongs to: those done before it; ones in reset
    output                        stopped,  // see stop_at; or a trap or an error
    output                        input_free,
    output [63:0]                 probe_cycle,
    output [(CLUSTERS+2)*192-1:0] probe_counters,
    output [895:0]                probe_transfers,
    output [CLUSTERS-1:0]         probe_running,
    output [CLUSTERS-1:0]         probe_armed,
    output [9:0]                  probe_trap,
    output [CLUSTERS*32-1:0]      probe_cluster,
    output [39:0]                 probe_dmpa,
    output                        probe_host_sleeping,
    output [31:0]                 probe_host_pc,
    output                        probe_run,
    output [159:0]                probe_entry,
    output [31:0]                 sensor_sent
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
    wire frames_over = stop_at != 0 ? frames_done == stop_at : frames_asked != 0 && frames_asked == frames_done;
    wire over = frames_over || trap || error != 0;
    reg over_q;  // a cycle later: the monitors have recorded the end by then
    always @(posedge clk) over_q <= over;
    assign stopped = over && over_q;

    // Logic that depends on an input port is evaluated at each change of any input, the clock's two edges included:
    // from a register, reset costs nothing. A frame requested in the cycle of the delay is kept for the next.
    // It begins low, and rises with rst, not with the clock: the host core's reset is asynchronous, and simulated by its
    // edge; and no edge of the clock may find the SoC out of reset before it was in it.
    reg rst_q = 1'b0;
    always @(posedge clk or posedge rst)
        if (rst) rst_q <= 1'b1;
        else rst_q <= 1'b0;
    reg frame_q;
    always @(posedge clk) begin
        frame_q <= frame & rst_q & ~rst;
    end
    wire asked = frame | frame_q;
    assign step = rst_q ? ~0 : lists_done + {31'b0, list_done};
    reg boot_q;
    always @(posedge clk) boot_q <= boot;

    wire                 entry_valid, entry_ready, entry_write, frame_asked;
    wire [WORD_BITS-1:0] entry_payload, entry_data;
    wire [19:0]          entry_addr;
    j3dai_sensor #(.WORD_BITS(WORD_BITS), .DEPTH(SENSOR_BEATS)) sensor (
        .clk(clk), .rst(rst_q), .limit(sensor_limit), .payload(entry_payload), .valid(entry_valid),
        .ready(entry_ready), .sent(sensor_sent)
    );

    j3dai_soc soc (
        .clk(clk), .rst(rst_q), .frame(asked), .frames_done(frames_done), .error(error), .trap(trap),
        .boot(boot_q), .entry__payload(entry_payload), .entry__valid(entry_valid), .entry__ready(entry_ready),
        .input_free(input_free), .probe_frame(frame_asked), .probe_run(probe_run), .probe_entry(probe_entry),
        .probe_entry_write(entry_write), .probe_entry_addr(entry_addr), .probe_entry_data(entry_data),
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

    j3dai_monitors #(.CLUSTERS(CLUSTERS), .WORD_BITS(WORD_BITS), .BANKS(BANKS),
                     .LOAD_TO_CLUSTER(LOAD_TO_CLUSTER)) monitors (
        .clk(clk), .rst(rst | rst_q), .enable(monitor_enable), .cycle(probe_cycle),
        .l2_we(l2_we), .l2_addr(l2_addr), .l2_mask(l2_mask), .l2_data(l2_data), .l2_sources({entry_write, l2_sources}),
        .entry_addr(entry_addr), .entry(probe_entry), .run(probe_run),
        .list(list), .list_done(list_done), .counters(probe_counters),
        .transfers(probe_transfers),
        .wr_valid(wr_valid), .drain_ahead(drain_ahead), .frames_done(frames_done), .frame(frame_asked),
        .running(probe_running), .cluster(probe_cluster), .dmpa(probe_dmpa[31:0]), .host_state(host_state),
        .lost(lost)
    );

    j3dai_l1_taps l1_taps (
        .clk(clk), .rst(rst | rst_q), .wanted(monitor_l1), .cycle(probe_cycle), .wr_valid(wr_valid),
        .wr_space(wr_space), .running(probe_running)
    );
endmodule
