// SPDX-License-Identifier: Apache-2.0
#include "shim.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>

#include "print.h"
#include "verilated_save.h"
#include "verilated_sym_props.h"
#include "verilated_syms.h"

namespace nncosim {

static Simulation* selected = nullptr;

Simulation* selected_simulation() { return selected; }

void Simulation::select() {
    selected = this;
    select_log(&log);
    Verilated::threadContextp(context.get());
}

void Simulation::settle() {
    if (free_clocks.next == context->time()) free_clocks.toggle();
    top_eval(top.get());
#if VM_TRACE
    if (trace_wanted()) trace->dump(context->time());
#endif
}

void Simulation::phase(CData level) {
    if (clock) *clock = level;
    settle();
    const std::uint64_t end = context->time() + half_period;
    while (free_clocks.next < end) {
        context->time(free_clocks.next);
        settle();
    }
    context->time(end);
}

static const VerilatedVar* find(Simulation& simulation, const char* scope, const char* name) {
    const VerilatedScope* const scopep = simulation.context->scopeFind(scope);
    return scopep ? scopep->varFind(name) : nullptr;
}

CData* find_clock(Simulation& simulation, const char* name) {
    const VerilatedVar* const port = find(simulation, "TOP", name);
    const bool fits = port && port->entBits() == 1 && port->vldir() != VLVD_OUT;
    return fits ? static_cast<CData*>(port->datap()) : nullptr;
}

#if VM_TRACE
static bool add_conditions(Simulation& simulation, const char* text) {
    simulation.trace_when.clear();
    while (text && *text) {
        char name[128];
        unsigned long long low = 0, high = 0;
        int size = 0;
        if (std::sscanf(text, "%127[^:]:%llu:%llu%n", name, &low, &high, &size) != 3) return false;
        const VerilatedVar* const port = find(simulation, "TOP", name);
        if (!port || port->entSize() > 8) return false;
        simulation.trace_when.push_back({port->datap(), static_cast<std::uint32_t>(port->entSize()), low, high});
        text += size;
        if (*text == ',') ++text;
    }
    return true;
}

bool trace_on(Simulation& simulation, const char* path, int depth, std::uint64_t from, std::uint64_t until,
              const char* when) {
    if (!add_conditions(simulation, when)) return false;
    simulation.trace = std::make_unique<NncosimTrace>();
    top_trace(simulation.top.get(), simulation.trace.get(), depth);
    simulation.trace->open(path);
    simulation.trace_from = from;
    simulation.trace_until = until;
    return simulation.trace->isOpen();
}
#else
bool trace_on(Simulation&, const char*, int, std::uint64_t, std::uint64_t, const char*) { return false; }
#endif

// Inputs start at zero, not at random: a random clock or `stop` input would act before anybody could set it.
static void zero_inputs(Simulation& simulation) {
    for (const auto& [name, port] : *simulation.context->scopeFind("TOP")->varsp()) {
        if (port.vldir() == VLVD_IN) std::memset(port.datap(), 0, port.entSize());
    }
}

std::unique_ptr<Simulation> create(int argc, const char** argv, bool throws) {
    auto simulation = std::make_unique<Simulation>();
    simulation->throws = throws;
    simulation->context = std::make_unique<VerilatedContext>();
    simulation->select();
    simulation->context->commandArgs(argc, argv);
#if VM_TRACE
    simulation->context->traceEverOn(true);
#endif
    simulation->top.reset(top_create(simulation->context.get()));
    zero_inputs(*simulation);
    return simulation;
}

// Runs `body`; a fatal error of the runtime (no convergence, assertion, bad record) ends it early.
template <typename Body>
static void guarded(Simulation& simulation, Body body) {
    simulation.select();
    try {
        body();
    } catch (const std::exception& failure) {
        if (simulation.error.empty()) simulation.error = failure.what();
    }
}

class MemorySave final : public VerilatedSerialize {
public:
    std::vector<std::uint8_t> bytes;
    ~MemorySave() override = default;
    void flush() override {
        bytes.insert(bytes.end(), m_bufp, m_cp);
        m_cp = m_bufp;
    }
};

class MemoryRestore final : public VerilatedDeserialize {
    const std::uint8_t* m_next;
    const std::uint8_t* const m_end;

public:
    MemoryRestore(const std::uint8_t* data, std::size_t size) : m_next{data}, m_end{data + size} {
        m_endp = m_bufp;
    }
    ~MemoryRestore() override = default;
    void fill() override {
        const std::size_t kept = m_endp - m_cp;
        std::memmove(m_bufp, m_cp, kept);
        std::size_t count = std::min<std::size_t>(bufferSize() - kept, m_end - m_next);
        std::memcpy(m_bufp + kept, m_next, count);
        m_next += count;
        count += kept;
        // Readers look ahead of what they use: the rest of the buffer must be defined.
        std::memset(m_bufp + count, 0, bufferSize() - count);
        m_endp = m_bufp + bufferSize();
        m_cp = m_bufp;
    }
};

}  // namespace nncosim

using nncosim::Simulation;

static std::string last_printed;  // the last line the design or the runtime printed

extern "C" int nncosim_printf(const char* format, ...) {
    char text[1024];
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    last_printed = text;
    while (!last_printed.empty() && last_printed.back() == '\n') last_printed.pop_back();
    va_start(arguments, format);
    const int size = std::vfprintf(stdout, format, arguments);
    va_end(arguments);
    return size;
}

// The runtime's own versions of these three abort the process, and with it the user's Python.
static void report(const char* kind, const char* file, int line, const char* text) {
    std::string message = std::string{kind} + " at " + file + ":" + std::to_string(line);
    if (text && *text) message += std::string{": "} + text;
    std::fflush(stdout);
    Simulation* const simulation = nncosim::selected_simulation();
    if (simulation && simulation->error.empty()) simulation->error = message;
    if (!simulation || !simulation->throws) std::fprintf(stderr, "nncosim: %s\n", message.c_str());
}

void vl_finish(const char*, int, const char*) { Verilated::threadContextp()->gotFinish(true); }

void vl_stop(const char* file, int line, const char*) {
    // $error and assertions print first and stop then: "[5000] %Error: file.sv:14: Assertion failed in ..."
    const bool printed = last_printed.find("%Error") != std::string::npos
                         || last_printed.find("%Fatal") != std::string::npos;
    report(printed ? "assertion" : "$stop", file, line, printed ? last_printed.c_str() : "");
    Verilated::threadContextp()->gotFinish(true);
}

void vl_fatal(const char* file, int line, const char*, const char* text) {
    report("fatal error", file, line, text);
    Simulation* const simulation = nncosim::selected_simulation();
    if (simulation && simulation->throws) throw std::runtime_error(simulation->error);
    std::exit(1);
}

extern "C" {

struct NncosimVariable {
    const char* scope;
    const char* name;
    void* data;
    std::uint32_t bits;           // bits an element
    std::uint32_t element_bytes;  // 1, 2, 4, 8, or a multiple of 4
    std::uint64_t elements;       // 1 for a plain variable
    std::int32_t direction;       // 0 none, 1 input, 2 output, 3 inout
};

void* nncosim_create(int argc, const char** argv, const char* clock, std::uint64_t half_period) {
    auto simulation = nncosim::create(argc, argv, true);
    simulation->half_period = half_period;
    if (clock && *clock) simulation->clock = nncosim::find_clock(*simulation, clock);
    nncosim::guarded(*simulation, [&] { nncosim::top_eval(simulation->top.get()); });
    return simulation.release();
}

// A further clock that toggles by itself, with its first rising edge `phase` after the main clock's. Returns 0 when
// there is no such one-bit input.
int nncosim_add_clock(void* handle, const char* port, std::uint64_t half_period, std::uint64_t phase) {
    auto* const simulation = static_cast<Simulation*>(handle);
    CData* const level = nncosim::find_clock(*simulation, port);
    if (level) simulation->free_clocks.add(level, half_period, simulation->context->time() + phase);
    return level != nullptr;
}

void nncosim_destroy(void* handle) {
    auto* const simulation = static_cast<Simulation*>(handle);
    nncosim::guarded(*simulation, [&] { nncosim::top_final(simulation->top.get()); });
#if VM_TRACE
    simulation->trace.reset();
#endif
    delete simulation;
    nncosim::select_log(nullptr);
    nncosim::selected = nullptr;
    Verilated::threadContextp(nullptr);
}

// The simulation of this process when Python runs inside the simulator.
void* nncosim_selected() { return nncosim::selected_simulation(); }

const char* nncosim_error(void* handle) { return static_cast<Simulation*>(handle)->error.c_str(); }
int nncosim_finished(void* handle) { return static_cast<Simulation*>(handle)->context->gotFinish(); }
std::uint64_t nncosim_cycles(void* handle) { return static_cast<Simulation*>(handle)->cycles; }

void nncosim_eval(void* handle) {
    auto* const simulation = static_cast<Simulation*>(handle);
    nncosim::guarded(*simulation, [&] { nncosim::top_eval(simulation->top.get()); });
}

// Returns the cycles done, fewer than `count` when the simulation stopped.
std::uint64_t nncosim_tick(void* handle, std::uint64_t count) {
    auto* const simulation = static_cast<Simulation*>(handle);
    const std::uint64_t first = simulation->cycles;
    nncosim::guarded(*simulation, [&] {
        for (std::uint64_t i = 0; i < count && !simulation->stopped(); ++i) simulation->cycle();
    });
    return simulation->cycles - first;
}

// Ticks until the low `bytes` (1, 2, 4 or 8) at `data` equal `value`, at most `limit` cycles.
// Returns the cycles done; whether the value was reached is for the caller to see.
std::uint64_t nncosim_run_until(void* handle, const void* data, std::uint32_t bytes, std::uint64_t value,
                                std::uint64_t limit) {
    auto* const simulation = static_cast<Simulation*>(handle);
    const std::uint64_t first = simulation->cycles;
    nncosim::guarded(*simulation, [&] {
        nncosim::top_eval(simulation->top.get());
        for (std::uint64_t i = 0;; ++i) {
            std::uint64_t now = 0;
            std::memcpy(&now, data, bytes);
            if (now == value || i == limit || simulation->stopped()) break;
            simulation->cycle();
        }
    });
    return simulation->cycles - first;
}

// What a hand-written C++ main would do, for the benchmark to compare with.
void nncosim_bare_loop(void* handle, std::uint64_t count) {
    auto* const simulation = static_cast<Simulation*>(handle);
    simulation->select();
    nncosim::Top* const top = simulation->top.get();
    CData* const clock = simulation->clock;
    for (std::uint64_t i = 0; i < count; ++i) {
        *clock = 1;
        nncosim::top_eval(top);
        *clock = 0;
        nncosim::top_eval(top);
    }
    simulation->cycles += count;
}

static NncosimVariable describe(const char* scope, const VerilatedVar& variable) {
    std::uint64_t elements = 1;
    for (const VerilatedRange& range : variable.unpackedRanges()) elements *= range.elements();
    const int direction = variable.vldir();
    return {scope, variable.name(), variable.datap(), variable.entBits(), variable.entSize(), elements,
            direction == VLVD_IN ? 1 : direction == VLVD_OUT ? 2 : direction == VLVD_INOUT ? 3 : 0};
}

// Calls `visit` for every variable that the build left visible: ports in scope "TOP", memories in theirs.
void nncosim_visit(void* handle, void (*visit)(const NncosimVariable*)) {
    auto* const simulation = static_cast<Simulation*>(handle);
    for (const auto& [scope_name, scope] : *simulation->context->scopeNameMap()) {
        if (!scope->varsp()) continue;
        for (const auto& [name, variable] : *scope->varsp()) {
            const NncosimVariable description = describe(scope_name, variable);
            visit(&description);
        }
    }
}

// Saved state: 8 bytes of cycles, 8 of time, 8 of each free clock's next edge, then the model. Returns its size; the
// bytes stay valid until the next call.
std::uint64_t nncosim_save(void* handle, const std::uint8_t** bytes) {
    static std::vector<std::uint8_t> saved;
    auto* const simulation = static_cast<Simulation*>(handle);
    simulation->select();
    nncosim::MemorySave out;
    const std::uint64_t time = simulation->context->time();
    out.write(&simulation->cycles, 8).write(&time, 8);
    for (const nncosim::FreeClock& clock : simulation->free_clocks.running) out.write(&clock.edge, 8);
    nncosim::top_save(simulation->top.get(), out);
    out.flush();
    saved = std::move(out.bytes);
    *bytes = saved.data();
    return saved.size();
}

void nncosim_restore(void* handle, const std::uint8_t* bytes, std::uint64_t size) {
    auto* const simulation = static_cast<Simulation*>(handle);
    nncosim::guarded(*simulation, [&] {
        nncosim::MemoryRestore in{bytes, size};
        std::uint64_t time = 0;
        in.read(&simulation->cycles, 8).read(&time, 8);
        for (nncosim::FreeClock& clock : simulation->free_clocks.running) in.read(&clock.edge, 8);
        simulation->free_clocks.find_next();
        nncosim::top_restore(simulation->top.get(), in);
        simulation->context->time(time);
    });
}

std::uint64_t nncosim_log_size(void* handle, std::int32_t stream, std::uint32_t* record_words) {
    auto& log = static_cast<Simulation*>(handle)->log;
    const auto found = log.find(stream);
    *record_words = found == log.end() ? 0 : found->second.record_words;
    return found == log.end() ? 0 : found->second.words.size();
}

const std::uint32_t* nncosim_log_data(void* handle, std::int32_t stream) {
    return static_cast<Simulation*>(handle)->log[stream].words.data();
}

void nncosim_log_clear(void* handle, std::int32_t stream) {
    static_cast<Simulation*>(handle)->log[stream].words.clear();
}

// Returns 0 when it cannot; see `trace_on`.
int nncosim_trace_on(void* handle, const char* path, int depth, std::uint64_t from, std::uint64_t until,
                     const char* when) {
    auto* const simulation = static_cast<Simulation*>(handle);
    simulation->select();
    return nncosim::trace_on(*simulation, path, depth, from, until, when);
}

void nncosim_trace_off(void* handle) {
#if VM_TRACE
    auto* const simulation = static_cast<Simulation*>(handle);
    if (simulation->trace) simulation->trace->close();
    simulation->trace.reset();
#else
    (void)handle;
#endif
}
}
