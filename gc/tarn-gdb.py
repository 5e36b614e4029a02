# tarn-gdb.py - gdb commands for programs that use Tarn.
#
#   (gdb) source PREFIX/share/tarn/tarn-gdb.py
#
#   info goroutines [-all]   all goroutines: status, where they stand, entry
#   goroutine N COMMAND      COMMAND (bt, say) on the stack of goroutine N;
#   goroutine all COMMAND    on that of each
#   goroutine N              goes on with that one until "goroutine off"
#   tarn procs               Ps and Ms
#   tarn gc                  the collector
#   tarn heap [N]            objects by type and size, the N largest sums
#   tarn object ADDRESS      the object that ADDRESS points into
#
# Works on live processes and on core files. What it knows of the runtime comes
# from the table tarn_debug_layout in the library (gc/debuglayout.c), so that it
# needs no debug information; only the pretty printers do. It writes nothing to
# the program: neither memory nor registers.
import struct

import gdb
from gdb.FrameDecorator import FrameDecorator
from gdb.unwinder import Unwinder, register_unwinder

U64 = (1 << 64) - 1
LAYOUT_VERSION = 1


def read(address, n):
    return bytes(gdb.selected_inferior().read_memory(address, n))


def number(raw, at=0, size=8):
    return int.from_bytes(raw[at:at + size], "little")


def text_at(address, limit=256):
    """A string, read in pieces: it may end at the end of a mapping."""
    got = b""
    while address != 0 and len(got) < limit:
        step = 64 - address % 64
        try:
            got += read(address, step)
        except gdb.MemoryError:
            break
        if b"\0" in got:
            return got[:got.index(b"\0")].decode(errors="replace")
        address += step
    return got.decode(errors="replace")


def symbol(address):
    """name or name+0x12, or the plain address."""
    try:
        line = gdb.execute("info symbol %#x" % address, to_string=True)
    except gdb.error:
        line = "No symbol"
    if line.startswith("No symbol"):
        return "%#x" % address
    name = line.split(" in section ")[0].strip()
    return name.replace(" + ", "+") if " + " in name else name


# --- the table ------------------------------------------------------------------


class Layout:
    def __init__(self):
        if not gdb.selected_inferior().threads():
            raise gdb.GdbError("The program is not being run.")
        try:
            where = int(gdb.parse_and_eval("(unsigned long)&tarn_debug_layout"))
        except gdb.error:
            raise gdb.GdbError("This program has no Tarn (no symbol "
                               "tarn_debug_layout), or it was stripped of all "
                               "symbols: give gdb the file with \"file\".")
        self.where = where
        self.entries = {}
        self.reasons = {}
        self.text = []
        while True:
            name, value, size = struct.unpack("<QQQ", read(where, 24))
            if name == 0:
                break
            key = text_at(name)
            if key.startswith("waitreason="):
                self.reasons[value] = key[11:]
            elif key == "text":
                self.text.append(value)
            else:
                self.entries[key] = (value, size)
            where += 24
        version = self.entries.get("version", (0, 0))[0]
        if version != LAYOUT_VERSION:
            raise gdb.GdbError("tarn-gdb.py is for version %d of the runtime's "
                               "layout, the program has %d: use the script "
                               "installed with the library."
                               % (LAYOUT_VERSION, version))
        self.status = {v: k[2:] for k, v in self.constants("=G")
                       if k not in ("=Gscan",) and not k.startswith("=GC")}

    def constants(self, prefix):
        return [(k, v[0]) for k, v in self.entries.items()
                if k.startswith(prefix)]

    def constant(self, name):
        return self.entries["=" + name][0]

    def sizeof(self, name):
        return self.entries[name][1]

    def address(self, name):
        return self.entries["&" + name][0]

    def variable(self, name):
        address, size = self.entries["&" + name]
        return number(read(address, size), 0, size)


the_layout = None


def layout():
    """Of the program as it is now: it may have been started again since."""
    global the_layout
    if the_layout is None:
        the_layout = Layout()
    return the_layout


def forget(*_):
    global the_layout
    the_layout = None


class Struct:
    """One of the runtime's structs, read as a whole where its size is known."""

    def __init__(self, kind, address):
        self.kind = kind
        self.address = address
        self.raw = None
        size = layout().entries.get(kind)
        if size is not None:
            self.raw = read(address, size[1])

    def bytes(self, field):
        at, size = layout().entries[self.kind + "." + field]
        if self.raw is not None:
            return self.raw[at:at + size]
        return read(self.address + at, size)

    def __getitem__(self, field):
        raw = self.bytes(field)
        return number(raw, 0, len(raw))

    def pair(self, field):
        raw = self.bytes(field)
        return number(raw, 0), number(raw, 8)


def global_struct(kind, name):
    return Struct(kind, layout().address(name))


# --- goroutines ------------------------------------------------------------------

CALLEE_SAVED = ("r15", "r14", "r13", "r12", "rbx", "rbp")  # as they are pushed


class Goroutine:
    def __init__(self, address):
        self.address = address
        self.g = Struct("g", address)
        self.id = self.g["goid"]
        self.lo, self.hi = self.g.pair("stack")
        status = self.g["atomicstatus"]
        self.status = layout().status.get(
            status & ~layout().constant("Gscan"), "?%d" % status)
        self.resume = self.g["resume"]

    def is_system(self):
        return self.g["system"] != 0

    def is_frozen(self):
        return bool(self.resume & layout().constant("RESUME_THAW"))

    def has_started(self):
        return not self.resume & layout().constant("RESUME_START")

    def state(self):
        if self.status == "waiting":
            return "waiting: " + layout().reasons.get(self.g["waitreason"], "?")
        return self.status

    def machine(self):
        address = self.g["m"]
        return Struct("m", address) if address else None

    def notes(self):
        notes = []
        if self.is_frozen():
            notes.append("frozen")
        elif not self.has_started():
            notes.append("not started")
        elif self.g["asyncSafePoint"]:
            notes.append("interrupted")
        if self.g["foreign"]:
            notes.append("attached thread")
        elif self.g["lockedm"]:
            notes.append("locked to M %d" % Struct("m", self.g["lockedm"])["id"])
        if self.is_system():
            notes.append("system")
        return notes

    def title(self):
        return "goroutine %d [%s]" % (self.id, ", ".join(
            [self.state()] + self.notes()))

    def thread(self):
        """Whose registers are its own: it runs, on its own stack; or native
        code that it has called does."""
        if self.status not in ("running", "syscall", "copystack"):
            return None
        m = self.machine()
        return thread_of(m) if m is not None else None

    def context(self):
        """Registers that it goes on with."""
        sp = self.g["sched_sp"]
        saved = read(sp, 56)
        regs = dict((r, number(saved, 8 * i)) for i, r in enumerate(CALLEE_SAVED))
        regs["rip"] = number(saved, 48)
        regs["rsp"] = sp + 56
        return regs

    def moved(self, value):
        """A word of the image of a frozen goroutine, as it would be if the
        goroutine ran on the image."""
        if self.is_frozen():
            lo, hi = self.g.pair("frozen")
            if lo <= value < hi:
                return (value + self.hi - hi) & U64
        return value


def goroutines(system=False):
    n = layout().variable("allglen")
    chunk = layout().constant("ALLG_CHUNK")
    for first in range(0, n, chunk):
        where = number(read(layout().address("allg_chunks") + first // chunk * 8, 8))
        if where == 0:
            return
        count = min(chunk, n - first)
        for address, in struct.iter_unpack("<Q", read(where, 8 * count)):
            if address == 0:
                continue
            gr = Goroutine(address)
            if gr.status in ("dead", "idle") or (gr.is_system() and not system):
                continue
            yield gr


def goroutine_by_id(goid):
    for gr in goroutines(system=True):
        if gr.id == goid:
            return gr
    raise gdb.GdbError("There is no goroutine %d." % goid)


# --- threads ----------------------------------------------------------------------


def thread_of(m):
    """By its kernel number; by its thread pointer where the runtime does not keep
    one (threads that end, or that it did not make)."""
    threads = gdb.selected_inferior().threads()
    tid = m["procid"]
    for t in threads:
        if tid != 0 and t.ptid[1] == tid:
            return t
    pointer = m["thread"]
    before = gdb.selected_thread()
    try:
        for t in threads:
            t.switch()
            if int(gdb.parse_and_eval("(unsigned long)$fs_base")) & U64 == pointer:
                return t
    except gdb.error:
        pass
    finally:
        if before is not None:
            before.switch()
    return None


def thread_register(name):
    return int(gdb.newest_frame().read_register(name)) & U64


# --- stacks of goroutines that do not run ----------------------------------------
#
# While a goroutine is looked at, frame 0 of the thread stands for it: the unwinder
# here says that its caller is where the goroutine stands. Nothing is written, so it
# works on core files. Where a frame of a frozen goroutine hands on a register that
# points to where its stack was, one more frame comes in between, which differs in
# that register; both kinds are left out of backtraces, or shown as what they are.


class FrameId:
    def __init__(self, sp, pc):
        self.sp = sp
        self.pc = pc


class GoroutineUnwinder(Unwinder):
    def __init__(self):
        super().__init__("tarn-goroutine")
        self.goroutine = None

    def start(self, gr):
        self.goroutine = None
        gdb.invalidate_cached_frames()
        self.base = (thread_register("rsp"), thread_register("rip"))
        self.context = dict((r, gr.moved(v)) for r, v in gr.context().items())
        self.thread = gdb.selected_thread().ptid
        self.fixed = set()
        self.goroutine = gr
        gdb.invalidate_cached_frames()

    def stop(self):
        if self.goroutine is not None:
            self.goroutine = None
            gdb.invalidate_cached_frames()

    def info(self, frame, sp, pc, regs):
        # The id of the stand-in lies below the goroutine's stack, as frames lie
        # below their callers.
        pointer = frame.read_register("rsp").type
        info = frame.create_unwind_info(
            FrameId(gdb.Value(sp).cast(pointer), gdb.Value(pc).cast(pointer)))
        for r, v in regs.items():
            info.add_saved_register(
                r, gdb.Value(v).cast(frame.read_register(r).type))
        return info

    def __call__(self, frame):
        gr = self.goroutine
        if gr is None or gdb.selected_thread().ptid != self.thread:
            return None
        sp = int(frame.read_register("rsp")) & U64
        pc = int(frame.read_register("rip")) & U64
        if (sp, pc) == self.base:
            return self.info(frame, self.context["rsp"] - 8, pc, self.context)
        if not gr.is_frozen() or not gr.lo <= sp <= gr.hi:
            return None
        regs = dict()
        for r in CALLEE_SAVED:
            try:
                regs[r] = int(frame.read_register(r)) & U64
            except (gdb.error, ValueError):
                continue
        moved = dict((r, gr.moved(v)) for r, v in regs.items())
        if moved == regs:
            return None
        moved["rsp"] = sp
        moved["rip"] = pc
        self.fixed.add((sp, pc))
        return self.info(frame, sp, pc - 1, moved)

    def is_stand_in(self, frame):
        """0 for the first frame, 1 for one in between, else None."""
        gr = self.goroutine
        if gr is None or gdb.selected_thread().ptid != self.thread:
            return None
        if frame.level() == 0:
            return 0
        older = frame.older()
        at = (int(frame.read_register("rsp")) & U64, frame.pc())
        if at in self.fixed and older is not None and older.pc() == at[1] \
                and int(older.read_register("rsp")) & U64 == at[0]:
            return 1
        return None


class StandIn(FrameDecorator):
    def __init__(self, base, title):
        super().__init__(base)
        self.title = title

    def function(self):
        return self.title

    def nothing(self):
        return None

    address = filename = line = frame_args = frame_locals = nothing


class StandInFilter:
    name = "tarn-goroutine"
    priority = 1000
    enabled = True

    def filter(self, frames):
        for frame in frames:
            kind = unwinder.is_stand_in(frame.inferior_frame())
            if kind is None:
                yield frame
            elif kind == 0:
                yield StandIn(frame, unwinder.goroutine.title())


unwinder = GoroutineUnwinder()
register_unwinder(None, unwinder, replace=True)
gdb.frame_filters["tarn-goroutine"] = StandInFilter()


class On:
    """with On(gr): commands see the stack of that goroutine."""

    def __init__(self, gr):
        self.gr = gr

    def __enter__(self):
        self.thread = gdb.selected_thread()
        if self.thread is None:
            raise gdb.GdbError("The program is not being run.")
        self.before = unwinder.goroutine
        self.level = gdb.selected_frame().level()
        try:
            select(self.gr)
        except (gdb.error, gdb.GdbError):
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        unwinder.stop()
        if not self.thread.is_valid():
            return
        self.thread.switch()
        if self.before is not None:
            select(self.before)
        frame = gdb.newest_frame()
        while frame.level() < self.level and frame.older() is not None:
            frame = frame.older()
        frame.select()


def select(gr):
    """Makes its stack the selected one: by its thread, or by the unwinder."""
    unwinder.stop()
    if not gr.has_started():
        raise gdb.GdbError("%s: it has no frames; entry %s"
                           % (gr.title(), symbol(gr.g["fn"])))
    thread = gr.thread()
    if thread is not None:
        thread.switch()
        gdb.newest_frame().select()
        sp = thread_register("rsp")
        # On g0 for a moment, or in a native call there: it goes on from where it
        # left its stack, which gdb cannot always follow across.
        if gr.g["foreign"] or gr.lo <= sp < gr.hi:
            return
    elif gr.status in ("running", "copystack"):
        raise gdb.GdbError("%s: its thread is not to be found" % gr.title())
    unwinder.start(gr)
    first = gdb.newest_frame().older()
    if first is not None:
        if unwinder.is_stand_in(first) == 1:
            first = first.older()
        first.select()


# --- where a goroutine stands ------------------------------------------------------


def is_runtime(frame):
    # The assembly, which may be linked apart: asyncPreempt is a signal's frame.
    if frame.type() == gdb.SIGTRAMP_FRAME or frame.name() == "__morestack" or \
            (frame.name() or "").startswith("tarn_"):
        return True
    text = layout().text
    return min(text) <= frame.pc() <= max(text)


def where(gr):
    """The first frame that is not the runtime's, and how it got into it."""
    if not gr.has_started():
        return "-"
    try:
        with On(gr):
            frame = gdb.selected_frame()
            call = ""
            for _ in range(40):
                if frame is None:
                    break
                if unwinder.is_stand_in(frame) is None:
                    name = frame.name() or "%#x" % frame.pc()
                    if not is_runtime(frame):
                        return name + (" in " + call if call else "")
                    if name.startswith("tarn_"):
                        call = name
                frame = frame.older()
            return call or (gdb.selected_frame().name() or "?")
    except (gdb.error, gdb.GdbError) as e:
        return "(%s)" % e


class InfoGoroutines(gdb.Command):
    """All goroutines: number, status, the function in which each stands and the call
of the library that it is in, its entry function.

  info goroutines        the first 200, without the runtime's own
  info goroutines -all   all of them

"*" marks the one that the selected thread runs. Running ones are shown with
their M and P and gdb's number of the thread."""

    def __init__(self):
        super().__init__("info goroutines", gdb.COMMAND_STATUS)

    def invoke(self, argument, _from_tty):
        if argument not in ("", "-all"):
            raise gdb.GdbError("Usage: info goroutines [-all]")
        everything = argument == "-all"
        shown = more = 0
        for gr in goroutines(system=everything):
            if shown >= 200 and not everything:
                more += 1
                continue
            shown += 1
            extra = gr.notes()
            m = gr.machine()
            thread = gr.thread()
            if gr.status in ("running", "syscall") and m is not None:
                extra.append("M %d" % m["id"])
                if m["p"]:
                    extra.append("P %d" % Struct("p", m["p"])["id"])
                if thread is not None:
                    extra.append("thread %d" % thread.num)
            print("%s %5d  %-34s %-34s entry %s" % (
                "*" if thread is not None and thread == gdb.selected_thread()
                else " ", gr.id,
                ", ".join([gr.state()] + extra), where(gr),
                symbol(gr.g["fn"]) if gr.g["fn"] else "-"))
        if more:
            print("... and %d more (info goroutines -all)" % more)
        elif shown == 0:
            print("No goroutines.")


class GoroutineCommand(gdb.Command):
    """Look at the stack of a goroutine.

  goroutine N COMMAND    runs COMMAND there: goroutine 7 bt
  goroutine all COMMAND  for each one
  goroutine N            bt, frame, up, info locals ... are about it from now on,
                         until the program goes on or
  goroutine off

Frame 0 stands for the goroutine itself where no thread runs it. Frames of a
frozen goroutine are shown in the memory that keeps them: pointers in that memory
to other places of its stack still have the addresses that they had there."""

    def __init__(self):
        super().__init__("goroutine", gdb.COMMAND_STACK)

    home = None  # the thread that was selected before "goroutine N"

    def one(self, gr, command):
        print(gr.title())
        with On(gr):
            thread = gr.thread()
            if thread is not None and unwinder.goroutine is not None:
                print("(from where it left its stack; what its thread %d does now: "
                      "thread apply %d %s)" % (thread.num, thread.num, command))
            gdb.execute(command)

    def invoke(self, argument, _from_tty):
        who, _, command = argument.strip().partition(" ")
        if who == "off" and not command:
            unwinder.stop()
            if GoroutineCommand.home is not None and GoroutineCommand.home.is_valid():
                GoroutineCommand.home.switch()
            GoroutineCommand.home = None
        elif who == "all" and command:
            for gr in list(goroutines()):
                try:
                    self.one(gr, command)
                except (gdb.error, gdb.GdbError) as e:
                    print(e)
                print()
        elif not who.isdigit():
            raise gdb.GdbError("Usage: goroutine N [COMMAND], goroutine all "
                               "COMMAND, goroutine off")
        elif command:
            self.one(goroutine_by_id(int(who)), command)
        else:
            gr = goroutine_by_id(int(who))
            if GoroutineCommand.home is None:
                GoroutineCommand.home = gdb.selected_thread()
            select(gr)
            print(gr.title())
            gdb.execute("frame")


# --- the heap -----------------------------------------------------------------------


def name_of(prefix, value):
    for name, number_ in layout().constants("=" + prefix):
        if number_ == value:
            return name[1 + len(prefix):]
    return "?%d" % value


def layout_name(value):
    return name_of("LAYOUT_", value).lower()


class Heap:
    def __init__(self):
        self.h = global_struct("heap", "heap")
        self.lo, self.hi = self.h["lo"], self.h["hi"]
        self.meta, self.pages = self.h["meta"], self.h["pages"]
        self.used = self.h["used_hi"]
        self.marking = global_struct("gcstate", "gc")["phase"] != \
            layout().constant("GC_OFF")
        self.white_xor = self.h["white_xor"]
        self.white_bit = self.h["white_bit"]
        self.sweepgen = self.h["sweepgen"]

    def span_at(self, address):
        shift = layout().constant("PAGE_SHIFT")
        where = number(read((self.pages + (address >> shift) * 8) & U64, 8))
        return Struct("mspan", where) if where else None

    def spans(self):
        """All spans, those of free pages too."""
        shift = layout().constant("PAGE_SHIFT")
        address = self.lo
        while address < self.used:
            s = self.span_at(address)
            if s is None:
                address += 1 << shift
                continue
            address += max(s["npages"], 1) << shift
            yield s

    def colour(self, meta, span):
        """Of an allocated object: what the collector thinks of it."""
        age = "old" if meta & 3 == 3 else "young"
        if (meta ^ self.white_xor) & self.white_bit:
            if self.marking:
                return age + ", not marked yet"
            if span["sweepgen"] != self.sweepgen:
                return "dead, not swept yet"
        return age + (", marked" if self.marking else "")

    def metas(self, span):
        """The first meta byte of each place of a span."""
        shift = layout().constant("GRANULE_SHIFT")
        first = (self.meta + (span["base"] >> shift)) & U64
        if span["large"]:
            return read(first, 1)
        n = (span["limit"] - span["base"]) >> shift
        return read(first, n)[::span["elemsize"] >> shift]

    def live(self, span):
        """How many of its objects are not known to be dead; and how many are."""
        colours = self.metas(span).translate(COLOURS)
        total = len(colours) - colours.count(0)
        garbage = 0
        if not self.marking and span["sweepgen"] != self.sweepgen:
            garbage = sum(colours.count(c) for c in (1, 2, 3)
                          if (c ^ self.white_xor) & self.white_bit)
        return total - garbage, garbage


COLOURS = bytes(b & 3 for b in range(256))


def type_name(address, kind):
    if address == 0:
        return "(%s)" % layout_name(kind)
    return text_at(Struct("tarn_type", address)["name"])


def size_text(n):
    for unit in ("", "K", "M", "G"):
        if n < 10000 or unit == "G":
            return "%d%s" % (n, unit)
        n //= 1024


class TarnCommand(gdb.Command):
    """Commands about Tarn's runtime: tarn procs, gc, heap, object."""

    def __init__(self):
        super().__init__("tarn", gdb.COMMAND_STATUS, prefix=True)


class TarnHeap(gdb.Command):
    """Objects on the managed heap by type and size.

  tarn heap [N]    the N largest sums (20), 0 for all

An object that is allocated counts, also if nothing refers to it any more, until
a collection has found that out. Sizes are of the places that objects have."""

    def __init__(self):
        super().__init__("tarn heap", gdb.COMMAND_DATA)

    def invoke(self, argument, _from_tty):
        most = int(argument) if argument.strip().isdigit() else 20
        heap = Heap()
        rows = {}
        spans = free_pages = garbage_bytes = 0
        names = {}
        for s in heap.spans():
            if s["state"] != layout().constant("SPAN_INUSE"):
                free_pages += s["npages"]
                continue
            spans += 1
            count, garbage = heap.live(s)
            size = s["elemsize"]
            garbage_bytes += garbage * size
            key = (s["type"], s["layout"])
            if key not in names:
                names[key] = type_name(*key)
            row = rows.setdefault((names[key], s["layout"], size), [0, 0, 0])
            row[0] += count
            row[1] += count * size
            row[2] += 1
        page = 1 << layout().constant("PAGE_SHIFT")
        print("heap %#x .. %#x, used up to %#x" % (heap.lo, heap.hi, heap.used))
        print("in use: %d spans, %s in %d objects; garbage not swept yet: %s; "
              "free pages: %s; committed: %s" % (
                  spans, size_text(sum(r[1] for r in rows.values())),
                  sum(r[0] for r in rows.values()), size_text(garbage_bytes),
                  size_text(free_pages * page), size_text(heap.h["mapped"])))
        print("%12s %12s %8s %8s  %-12s %s" % (
            "objects", "bytes", "size", "spans", "layout", "type"))
        ordered = sorted(rows.items(), key=lambda item: -item[1][1])
        for (name, kind, size), (count, total, n) in \
                ordered[:most if most else None]:
            print("%12d %12d %8d %8d  %-12s %s" % (
                count, total, size, n, layout_name(kind), name))
        if most and len(ordered) > most:
            print("... and %d more (tarn heap 0)" % (len(ordered) - most))


class TarnObject(gdb.Command):
    """The managed object that an address points into.

  tarn object EXPRESSION

Its base, size, type, layout and what the collector thinks of it; for a channel
what is in it and who waits."""

    def __init__(self):
        super().__init__("tarn object", gdb.COMMAND_DATA)

    def invoke(self, argument, _from_tty):
        if not argument:
            raise gdb.GdbError("Usage: tarn object EXPRESSION")
        address = int(gdb.parse_and_eval(argument).cast(
            gdb.lookup_type("unsigned long"))) & U64
        heap = Heap()
        if not heap.lo <= address < heap.hi:
            raise gdb.GdbError("%#x is not in the managed heap (%#x .. %#x)"
                               % (address, heap.lo, heap.hi))
        s = heap.span_at(address) if address < heap.used else None
        if s is None or s["state"] != layout().constant("SPAN_INUSE") or \
                address >= s["limit"]:
            raise gdb.GdbError("%#x is in the heap, in no object (free pages or "
                               "the end of a span)" % address)
        index = 0 if s["large"] else (address - s["base"]) // s["elemsize"]
        base = s["base"] + index * s["elemsize"]
        meta = heap.metas(s)[index]
        name = type_name(s["type"], s["layout"])
        if meta & layout().constant("META_COLOR") == 0:
            raise gdb.GdbError("%#x is in a free place for objects of type %s, "
                               "%d bytes at %#x"
                               % (address, name, s["elemsize"], base))
        print("%#x: offset %d of the object at %#x" % (address, address - base,
                                                       base))
        print("type %s, %d bytes, %s, %s" % (name, s["elemsize"],
                                             layout_name(s["layout"]),
                                             heap.colour(meta, s)))
        print("span %#x, place %d of %d%s" % (s.address, index, s["nelems"],
                                              ", large" if s["large"] else ""))
        channel = channel_text(base, s["elemsize"])
        if channel:
            print(channel)


def waiters(address):
    names = []
    while address and len(names) < 100:
        sudog = Struct("sudog", address)
        names.append("%d" % Struct("g", sudog["g"])["goid"])
        address = sudog["next"]
    return names


def channel_text(address, room=None):
    """What a channel holds, or None if it is none."""
    if room is not None and room < layout().sizeof("hchan"):
        return None
    try:
        c = Struct("hchan", address)
    except gdb.MemoryError:
        return None
    if c["sig"] != layout().constant("HCHAN_SIG"):
        return None
    text = "channel: %d of %d elements of %d bytes" % (
        c["qcount"], c["dataqsiz"], c["elemsize"])
    if c["closed"]:
        text += ", closed"
    for queue, what in (("sendq", "sending"), ("recvq", "receiving")):
        names = waiters(c.pair(queue)[0])
        if names:
            text += ", %s: goroutine%s %s" % (
                what, "s" if len(names) > 1 else "", ", ".join(names))
    return text


# --- processors and collector --------------------------------------------------------


class TarnProcs(gdb.Command):
    """The Ps (processors) and Ms (threads), and what they run."""

    def __init__(self):
        super().__init__("tarn procs", gdb.COMMAND_STATUS)

    def invoke(self, _argument, _from_tty):
        lay = layout()
        s = global_struct("schedt", "sched")
        print("global queue %d, idle Ms %d%s" % (
            s["runqsize"], s["nmidle"],
            ", the world stops" if s["gcwaiting"] else ""))
        first = lay.variable("allp")
        for i in range(lay.variable("nprocs") if first else 0):
            p = Struct("p", number(read(first + 8 * i, 8)))
            queued = (p["runqtail"] - p["runqhead"]) & 0xffffffff
            if p["runnext"]:
                queued += 1
            m = Struct("m", p["m"]) if p["m"] else None
            status = name_of("P", p["status"])
            print("P %d: %s%s, queue %d, tick %d%s" % (
                p["id"], status, ", M %d" % m["id"] if m is not None else "",
                queued, p["schedtick"],
                ", asked to yield" if p["preempt"] else ""))
        address = lay.variable("allm")
        while address:
            m = Struct("m", address)
            thread = thread_of(m)
            what = []
            if m["p"]:
                what.append("P %d" % Struct("p", m["p"])["id"])
            if m["curg"]:
                what.append(Goroutine(m["curg"]).title())
            elif m["spinning"]:
                what.append("looks for work")
            if m["lockedg"] and m["lockedg"] != m["curg"]:
                what.append("locked to goroutine %d"
                            % Struct("g", m["lockedg"])["goid"])
            if m["locks"]:
                what.append("locks %d" % m["locks"])
            print("M %d: %s%s" % (
                m["id"],
                "thread %d (LWP %d)" % (thread.num, thread.ptid[1])
                if thread is not None else "no thread",
                ": " + ", ".join(what) if what else ""))
            address = m["alllink"]


class TarnGc(gdb.Command):
    """The collector: phase, cycles, sizes."""

    def __init__(self):
        super().__init__("tarn gc", gdb.COMMAND_STATUS)

    def invoke(self, _argument, _from_tty):
        gc = global_struct("gcstate", "gc")
        heap = global_struct("heap", "heap")
        phase = {layout().constant("GC_OFF"): "off",
                 layout().constant("GC_MARK"): "marking",
                 layout().constant("GC_MARKTERM"): "mark termination"}[gc["phase"]]
        sweeping = phase == "off" and gc["cycles_swept"] != gc["cycles_started"]
        print("phase %s%s, %s collection" % (
            phase, ", sweeping" if sweeping else "",
            "full" if heap["full"] else "young"))
        print("cycles %d (%d asked for, %d young), started %d, swept %d" % (
            gc["cycles"], gc["cycles_forced"], gc["young"],
            gc["cycles_started"], gc["cycles_swept"]))
        print("heap %d bytes, live after the last sweep %d, goal %d, trigger %d"
              % (heap["live"], gc["live"], gc["goal"], gc["trigger"]))


# --- pretty printers ----------------------------------------------------------------


def g_text(address):
    gr = Goroutine(address)
    if gr.status in ("dead", "idle"):
        return "goroutine [%s]" % gr.status
    return gr.title() + (", entry " + symbol(gr.g["fn"]) if gr.g["fn"] else "")


def m_text(address):
    m = Struct("m", address)
    return "M %d%s%s" % (
        m["id"], ", P %d" % Struct("p", m["p"])["id"] if m["p"] else "",
        ", " + Goroutine(m["curg"]).title() if m["curg"] else "")


def p_text(address):
    p = Struct("p", address)
    return "P %d [%s]%s" % (p["id"], name_of("P", p["status"]),
                            ", M %d" % Struct("m", p["m"])["id"] if p["m"] else "")


def span_text(address):
    s = Struct("mspan", address)
    if s["state"] != layout().constant("SPAN_INUSE"):
        return "span of %d free pages at %#x" % (s["npages"], s["base"])
    return "span of %d places of %d bytes at %#x, type %s" % (
        s["nelems"], s["elemsize"], s["base"], type_name(s["type"], s["layout"]))


def type_text(address):
    t = Struct("tarn_type", address)
    return "type %s, %d bytes, %s" % (text_at(t["name"]), t["size"],
                                      layout_name(t["layout"]))


TEXTS = {"g": g_text, "m": m_text, "p": p_text, "mspan": span_text,
         "tarn_type": type_text, "tarn_chan": channel_text,
         "hchan": channel_text}


class Printer:
    """A summary; behind it the fields, where it is the struct itself."""

    def __init__(self, value, name, pointer):
        self.value = value
        self.address = int(value if pointer else value.address) & U64
        self.pointer = pointer
        self.text = TEXTS[name]

    def to_string(self):
        try:
            text = self.text(self.address)
        except gdb.MemoryError:
            text = None
        if not self.pointer:
            return text
        return "%#x%s" % (self.address, " <%s>" % text if text else "")


class StructPrinter(Printer):
    def children(self):
        return ((f.name, self.value[f.name]) for f in self.value.type.fields()
                if f.name)


def printer_for(value):
    kind = value.type.strip_typedefs()
    pointer = kind.code == gdb.TYPE_CODE_PTR
    target = kind.target().strip_typedefs() if pointer else kind
    name = target.tag
    if target.code != gdb.TYPE_CODE_STRUCT or name not in TEXTS or \
            (int(value) == 0 if pointer else value.address is None):
        return None
    try:
        lay = layout()
    except gdb.GdbError:
        return None
    # A struct g of the program's own is none of ours.
    if target.sizeof and name != "tarn_chan" and \
            target.sizeof != lay.sizeof(name):
        return None
    return (Printer if pointer else StructPrinter)(value, name, pointer)


printer_for.__name__ = "tarn"
gdb.pretty_printers[:] = [p for p in gdb.pretty_printers
                          if getattr(p, "__name__", "") != "tarn"]
gdb.pretty_printers.append(printer_for)


# --- the end --------------------------------------------------------------------------


def on_continue(*_):
    unwinder.stop()
    GoroutineCommand.home = None


for event, handler in ((gdb.events.cont, on_continue), (gdb.events.exited, forget),
                       (gdb.events.new_objfile, forget),
                       (gdb.events.clear_objfiles, forget)):
    event.connect(handler)

for command in (InfoGoroutines, GoroutineCommand, TarnCommand, TarnHeap, TarnObject,
                TarnProcs, TarnGc):
    command()
