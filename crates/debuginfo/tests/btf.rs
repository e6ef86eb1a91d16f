//! Types of a small kernel, read and printed; and blobs that are none.

#![allow(clippy::unwrap_used, clippy::panic)] // also outside of the test functions

mod build;

use std::sync::Arc;

use build::btf::*;
use kmortem_debuginfo::btf::{Btf, BtfError, Kind};
use proptest::prelude::*;

/// Numbers of the types that several tests use.
struct Small {
    builder: Builder,
    int: u32,
    task: u32,
}

fn small() -> Small {
    let mut b = Builder::new();
    let int = b.int("int", 4, SIGNED);
    let ulong = b.int("long unsigned int", 8, 0);
    let uint = b.int("unsigned int", 4, 0);
    let char = b.int("char", 1, SIGNED);
    let comm = b.array(char, 16);
    let list = b.record(STRUCT, "list_head", false, 2, 16, &[]);
    // `struct list_head` points to itself: its pointer is the next type.
    let (next, prev) = (b.string("next"), b.string("prev"));
    let pointer = list + 1;
    let mut types = b;
    types.append(&[next, pointer, 0, prev, pointer, 64]);
    let pointer_to_list = types.to(PTR, list);
    assert_eq!(pointer_to_list, pointer);
    let mut b = types;
    let atomic = b.composite(STRUCT, "", 4, &[("counter", int, 0)]);
    let atomic = b.named(TYPEDEF, "atomic_t", atomic);
    let inner = b.composite(STRUCT, "", 16, &[("pid", int, 0), ("links", list, 0)]);
    let either = b.composite(UNION, "", 16, &[("", inner, 0), ("word", ulong, 0)]);
    let lists = b.array(list, 4);
    let task = b.record(FWD, "mm_struct", false, 0, 0, &[]);
    let mm = b.to(PTR, task);
    let task = b.bitfields(
        "task_struct",
        144,
        &[
            ("comm", comm, 0, 0),
            ("", either, 128, 0),
            ("usage", atomic, 256, 0),
            ("in_execve", uint, 288, 1),
            ("policy", uint, 289, 3),
            ("pids", lists, 320, 0),
            ("mm", mm, 832, 0),
        ],
    );
    Small { builder: b, int, task }
}

fn parse(builder: &Builder) -> Btf {
    Btf::parse(builder.finish()).unwrap()
}

#[test]
fn members_are_found_through_anonymous_ones_and_arrays() {
    let btf = parse(&small().builder);
    let task = btf.find("task_struct").unwrap();
    let place = |path| task.member(path).map(|m| (m.bit_offset, m.bit_size));
    assert_eq!(place("comm"), Some((0, None)));
    assert_eq!(place("comm[15]"), Some((120, None)));
    assert_eq!(place("comm[16]"), None);
    assert_eq!(place("pid"), Some((128, None)));
    assert_eq!(place("links.prev"), Some((192, None)));
    assert_eq!(place("usage.counter"), Some((256, None)));
    assert_eq!(place("in_execve"), Some((288, Some(1))));
    assert_eq!(place("policy"), Some((289, Some(3))));
    assert_eq!(place("pids[2].prev"), Some((320 + 256 + 64, None)));
    for wrong in
        ["", ".", "mm.pgd", "nothing", "pids[", "pids[x]", "pids[-1]", "pid[0]", "comm[0][0]"]
    {
        assert_eq!(place(wrong), None, "{wrong}");
    }
    assert_eq!(task.member("pids[1]").unwrap().ty.c_name(), "struct list_head");
}

#[test]
fn sizes_and_signs_are_seen_through_typedefs() {
    let btf = parse(&small().builder);
    let size = |name| btf.find(name).and_then(|ty| ty.size());
    assert_eq!(size("task_struct"), Some(144));
    assert_eq!(size("atomic_t"), Some(4));
    assert_eq!(size("unsigned long"), Some(8));
    assert_eq!(size("mm_struct"), None);
    let task = btf.find("struct task_struct").unwrap();
    assert_eq!(task.member("pids").unwrap().ty.size(), Some(64));
    assert_eq!(task.member("mm").unwrap().ty.size(), Some(8));
    assert!(task.member("pid").unwrap().ty.is_signed());
    assert!(!task.member("policy").unwrap().ty.is_signed());
}

#[test]
fn types_are_found_by_kind() {
    let mut b = small().builder;
    let of_union = b.composite(UNION, "both", 4, &[]);
    let of_struct = b.composite(STRUCT, "both", 8, &[]);
    let of_enum = b.enumeration("both", false, &[("A", 0)]);
    let btf = parse(&b);
    let id = |name| btf.find(name).map(|ty| ty.id());
    assert_eq!(id("both"), Some(of_struct));
    assert_eq!(id("struct both"), Some(of_struct));
    assert_eq!(id(" union  both "), Some(of_union));
    assert_eq!(id("enum both"), Some(of_enum));
    assert_eq!(id("struct atomic_t"), None);
    assert_eq!(id(""), None);
    assert_eq!(btf.ty(0).unwrap().kind(), Kind::Void);
    assert_eq!(btf.ty(0).unwrap().c_name(), "void");
    assert!(btf.ty(btf.len() as u32).is_none());
}

#[test]
fn bitfields_of_odd_ints_are_bitfields_without_the_flag() {
    let mut b = Builder::new();
    // DWARF 2 style: an int of 3 bits, 5 bits into its word.
    let odd = b.record(INT, "unsigned int", false, 0, 4, &[5 << 16 | 3]);
    let plain = b.int("int", 4, SIGNED);
    b.composite(STRUCT, "old", 8, &[("bits", odd, 0), ("plain", plain, 32)]);
    let btf = parse(&b);
    let old = btf.find("old").unwrap();
    let bits = old.member("bits").unwrap();
    assert_eq!((bits.bit_offset, bits.bit_size), (5, Some(3)));
    assert_eq!(old.member("plain").unwrap().bit_size, None);
}

#[test]
fn declarations_are_c() {
    let Small { builder: mut b, int, task } = small();
    let pointer = b.to(PTR, task);
    let konst = b.to(CONST, task);
    let to_konst = b.to(PTR, konst);
    let konst_pointer = b.to(CONST, to_konst);
    let proto = b.proto(int, &[("task", pointer), ("", to_konst), ("", 0)]);
    let handler = b.to(PTR, proto);
    let handlers = b.array(handler, 3);
    let to_handlers = b.to(PTR, handlers);
    let nothing = b.proto(0, &[]);
    let to_nothing = b.to(PTR, nothing);
    let rcu = b.record(TYPE_TAG, "rcu", false, 0, task, &[]);
    let rcu = b.to(PTR, rcu);
    let matrix = b.array(int, 2);
    let matrix = b.array(matrix, 5);
    let volatile = b.to(VOLATILE, matrix);
    let returns_handler = b.proto(handler, &[("signal", int)]);
    let restricted = b.to(RESTRICT, pointer);
    let btf = parse(&b);
    let declare = |id, name: &str| btf.ty(id).unwrap().declaration(name);
    assert_eq!(declare(pointer, ""), "struct task_struct *");
    assert_eq!(declare(konst_pointer, "p"), "const struct task_struct * const p");
    assert_eq!(declare(restricted, ""), "struct task_struct * restrict");
    let taken = "(struct task_struct *task, const struct task_struct *, ...)";
    assert_eq!(declare(handler, "f"), format!("int (*f){taken}"));
    assert_eq!(declare(handlers, "table"), format!("int (*table[3]){taken}"));
    assert_eq!(declare(to_handlers, "p"), format!("int (*(*p)[3]){taken}"));
    assert_eq!(declare(to_nothing, ""), "void (*)(void)");
    assert_eq!(declare(rcu, "real_parent"), "struct task_struct *real_parent");
    assert_eq!(declare(volatile, "m"), "volatile int m[5][2]");
    assert_eq!(declare(returns_handler, "set"), format!("int (*set(int signal)){taken}"));
}

#[test]
fn definitions_are_as_ptype_prints_them() {
    let mut b = small().builder;
    b.enumeration(
        "state",
        true,
        &[("IDLE", 0), ("BUSY", 1), ("DEAD", -1), ("NEXT", 0), ("FAR", 7)],
    );
    b.record(ENUM64, "flags", false, 1, 8, &[0, 0, 1 << 31]);
    let btf = parse(&b);
    let define = |name| btf.find(name).unwrap().definition();
    assert_eq!(define("atomic_t"), "struct {\n    int counter;\n}");
    assert_eq!(define("enum state"), "enum state {IDLE, BUSY, DEAD = -1, NEXT, FAR = 7}");
    assert_eq!(define("enum flags"), "enum flags { = 9223372036854775808}");
    assert_eq!(define("int"), "int");
    assert_eq!(
        define("task_struct"),
        "struct task_struct {
    char comm[16];
    union {
        struct {
            int pid;
            struct list_head links;
        };
        unsigned long word;
    };
    atomic_t usage;
    unsigned int in_execve : 1;
    unsigned int policy : 3;
    struct list_head pids[4];
    struct mm_struct *mm;
}"
    );
    let lines = btf.find("task_struct").unwrap().definition_lines(false);
    let pid = lines.iter().find(|line| line.name == "pid").unwrap();
    assert_eq!((pid.depth, pid.bit_offset, pid.size, pid.in_union), (3, 128, 4, false));
    assert!(!pid.in_member);
    let expanded = btf.find("task_struct").unwrap().definition_lines(true);
    let next = expanded.iter().find(|line| line.name == "next").unwrap();
    assert!(next.in_member && next.depth == 4);
}

#[test]
fn enum_values_have_the_sign_that_the_blob_says() {
    let mut b = Builder::new();
    b.enumeration("old", false, &[("MINUS", -4), ("ONE", 1)]);
    let values = |b: &Builder, name: &str| {
        let btf = parse(b);
        btf.find(name).unwrap().enumerators().map(|e| e.value).collect::<Vec<_>>()
    };
    // Before v6.0 no enum has the flag, and C's enums are ints.
    assert_eq!(values(&b, "old"), [-4, 1]);
    b.enumeration("new", true, &[("MINUS", -1)]);
    assert_eq!(values(&b, "old"), [0xffff_fffc, 1]);
    assert_eq!(values(&b, "new"), [-1]);
}

#[test]
fn variables_and_functions_have_their_types() {
    let Small { builder: mut b, int, task } = small();
    let percpu = b.record(VAR, "current_task", false, 0, task, &[1]);
    b.record(VAR, "jiffies", false, 0, int, &[1]);
    b.record(DATASEC, ".data..percpu", false, 1, 8, &[percpu, 0, 8]);
    let proto = b.proto(int, &[("task", task)]);
    let func = b.record(FUNC, "do_exit", false, 1, proto, &[]);
    b.record(DECL_TAG, "bpf_kfunc", false, 0, func, &[u32::MAX]);
    let float = b.record(FLOAT, "double", false, 0, 8, &[]);
    let btf = parse(&b);
    assert_eq!(btf.variable("current_task").unwrap().c_name(), "struct task_struct");
    assert!(btf.is_percpu_variable("current_task"));
    assert!(!btf.is_percpu_variable("jiffies"));
    assert_eq!(btf.variable("do_exit"), None);
    let proto = btf.function("do_exit").unwrap();
    assert_eq!(proto.declaration("do_exit"), "int do_exit(struct task_struct task)");
    assert_eq!(proto.parameters().count(), 1);
    assert_eq!(btf.find("double").map(|ty| ty.id()), Some(float));
    assert_eq!(btf.types().count(), btf.len() - 1);
}

#[test]
fn a_module_continues_its_base() {
    let base = small();
    let vmlinux = Arc::new(parse(&base.builder));
    let mut b = Builder::on(&base.builder);
    let own =
        b.composite(STRUCT, "nvme_dev", 152, &[("task", base.task, 0), ("queues", base.int, 1152)]);
    let module = Btf::parse_split(b.finish(), &vmlinux).unwrap();
    let dev = module.find("nvme_dev").unwrap();
    assert_eq!((dev.id(), own), (vmlinux.len() as u32, vmlinux.len() as u32));
    assert_eq!(dev.member("task.pids[1].next").unwrap().bit_offset, 320 + 128);
    assert_eq!(dev.member("queues").unwrap().ty.c_name(), "int");
    assert_eq!(
        module.find("task_struct").unwrap().definition(),
        vmlinux.find("task_struct").unwrap().definition()
    );
    assert!(vmlinux.find("nvme_dev").is_none());
}

#[test]
fn a_module_of_another_build_is_fitted() {
    // What the module was built with...
    let mut distilled = Builder::new();
    let int = distilled.int("int", 4, SIGNED);
    let list = distilled.composite(STRUCT, "list_head", 16, &[]);
    let grown = distilled.composite(STRUCT, "task_struct", 9999, &[]);
    let mm = distilled.record(FWD, "mm_struct", false, 0, 0, &[]);
    let mut module = Builder::on(&distilled);
    let task = module.to(PTR, grown);
    let mm = module.to(PTR, mm);
    module.composite(
        STRUCT,
        "dev",
        40,
        &[("list", list, 0), ("task", task, 128), ("mm", mm, 192), ("int", int, 256)],
    );
    // ...and what is there.
    let vmlinux = Arc::new(parse(&small().builder));
    let fitted = Btf::parse_split_distilled(module.finish(), distilled.finish(), &vmlinux).unwrap();
    let dev = fitted.find("dev").unwrap();
    assert_eq!(
        dev.definition(),
        "struct dev {\n    struct list_head list;\n    struct task_struct *task;\n    struct mm_struct *mm;\n    int int;\n}"
    );
    let task = dev.member("task").unwrap().ty.target().unwrap();
    assert_eq!(task.member("policy").unwrap().bit_size, Some(3));
}

#[test]
fn a_module_that_does_not_fit_is_refused() {
    let vmlinux = Arc::new(parse(&small().builder));
    let fit = |kind, name: &str, size, embed: bool| {
        let mut distilled = Builder::new();
        let ty = distilled.composite(kind, name, size, &[]);
        let mut module = Builder::on(&distilled);
        if embed {
            module.composite(STRUCT, "dev", 40, &[("it", ty, 0)]);
        }
        Btf::parse_split_distilled(module.finish(), distilled.finish(), &vmlinux).map(|_| ())
    };
    let refused = |result: Result<(), BtfError>| match result {
        Err(BtfError::Base { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(fit(STRUCT, "list_head", 24, false), Ok(()));
    assert_eq!(refused(fit(STRUCT, "list_head", 24, true)), "vmlinux has it with another size");
    assert_eq!(refused(fit(UNION, "list_head", 16, false)), "vmlinux has no such type");
    assert_eq!(refused(fit(STRUCT, "unheard_of", 16, false)), "vmlinux has no such type");
    assert_eq!(refused(fit(STRUCT, "", 16, false)), "it has no name");
}

#[test]
fn kinds_of_the_future_are_stepped_over_if_the_blob_says_how() {
    let mut b = small().builder;
    b.record(77, "", false, 2, 0, &[1, 2, 3, 4, 5]);
    let after = b.int("after", 4, 0);
    let mut layout = vec![(0, 0); 77];
    layout.push((12, 4));
    let btf = Btf::parse(b.finish_with_layout(&layout)).unwrap();
    assert_eq!(btf.find("after").map(|ty| ty.id()), Some(after));
    assert_eq!(btf.ty(after - 1).unwrap().kind(), Kind::Unknown);
    let error = Btf::parse(b.finish()).map(|_| ());
    assert_eq!(error, Err(BtfError::Type { id: after - 1, reason: "its kind is unknown" }));
}

#[test]
fn a_struct_may_have_more_members_than_sixteen_bits_count() {
    let mut b = Builder::new();
    let byte = b.int("u8", 1, 0);
    let names: Vec<String> = (0..70_000).map(|i| format!("m{i}")).collect();
    let members: Vec<_> =
        names.iter().zip(0..).map(|(name, i)| (name.as_str(), byte, i * 8)).collect();
    b.composite(STRUCT, "wide", 70_000, &members);
    let wide = parse(&b);
    assert_eq!(wide.find("wide").unwrap().member("m69999").unwrap().bit_offset, 69_999 * 8);
}

fn error(blob: Vec<u8>) -> BtfError {
    Btf::parse(blob).map(|_| ()).unwrap_err()
}

#[test]
fn no_header() {
    assert_eq!(error(Vec::new()), BtfError::ShortHeader { len: 0 });
    let blob = small().builder.finish();
    assert_eq!(error(blob[..23].to_vec()), BtfError::ShortHeader { len: 23 });
    let mut long = blob.clone();
    long[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(error(long), BtfError::ShortHeader { .. }));
}

#[test]
fn no_btf() {
    assert_eq!(error(vec![0; 64]), BtfError::Magic { magic: 0, version: 0 });
    let mut blob = small().builder.finish();
    blob[2] = 2;
    assert_eq!(error(blob), BtfError::Magic { magic: 0xeb9f, version: 2 });
}

#[test]
fn sections_outside_of_the_blob() {
    for field in [8, 12, 16, 20] {
        let mut blob = small().builder.finish();
        blob[field..field + 4].copy_from_slice(&(u32::MAX - 7).to_le_bytes());
        assert!(matches!(error(blob), BtfError::Section { .. }), "{field}");
    }
}

#[test]
fn strings_without_an_end() {
    let mut blob = small().builder.finish();
    *blob.last_mut().unwrap() = b'x';
    assert_eq!(error(blob), BtfError::Strings("the last one does not end"));
}

#[test]
fn strings_that_are_no_text() {
    let mut b = Builder::new();
    b.int("long", 8, 0);
    let mut blob = b.finish();
    let at = blob.len() - 3;
    blob[at] = 0xff;
    assert_eq!(error(blob), BtfError::Strings("they are not UTF-8"));
}

#[test]
fn a_record_that_is_cut_off() {
    let mut b = Builder::new();
    b.int("int", 4, 0);
    b.append(&[0, PTR << 24]);
    assert_eq!(error(b.finish()), BtfError::Type { id: 2, reason: "its record is cut off" });
}

#[test]
fn members_that_are_cut_off() {
    let mut b = Builder::new();
    b.record(STRUCT, "s", false, 2, 8, &[0, 1, 0]);
    assert_eq!(error(b.finish()), BtfError::Type { id: 1, reason: "its members are cut off" });
    let mut b = Builder::new();
    b.record(STRUCT, "s", false, 0xff_ffff, 8, &[]);
    assert_eq!(error(b.finish()), BtfError::Type { id: 1, reason: "its members are cut off" });
}

#[test]
fn types_that_refer_to_nothing() {
    let dangling = |b: &Builder| {
        assert!(matches!(
            error(b.finish()),
            BtfError::Type { id: 1, reason: "it refers to a type that is not there" }
        ));
    };
    let mut b = Builder::new();
    b.to(PTR, 2);
    dangling(&b);
    let mut b = Builder::new();
    b.composite(STRUCT, "s", 8, &[("m", 9, 0)]);
    dangling(&b);
    let mut b = Builder::new();
    b.array(u32::MAX, 1);
    dangling(&b);
    let mut b = Builder::new();
    b.proto(0, &[("x", 7)]);
    dangling(&b);
}

#[test]
fn names_outside_of_the_strings() {
    let mut b = Builder::new();
    b.append(&[1000, PTR << 24, 0]);
    let reason = "its name is outside of the strings";
    assert_eq!(error(b.finish()), BtfError::Type { id: 1, reason });
    let mut b = Builder::new();
    b.record(ENUM, "e", false, 1, 4, &[1000, 0]);
    let reason = "a member's name is outside of the strings";
    assert_eq!(error(b.finish()), BtfError::Type { id: 1, reason });
}

#[test]
fn types_that_consist_of_themselves_come_to_an_end() {
    let mut b = Builder::new();
    b.named(TYPEDEF, "loop_t", 1);
    b.to(CONST, 3);
    b.to(VOLATILE, 2);
    b.array(4, u32::MAX);
    b.to(PTR, 5);
    b.proto(6, &[("", 6), ("", 6), ("", 6)]);
    b.composite(STRUCT, "russian_doll", 8, &[("", 7, 0), ("", 7, 0), ("", 7, 0)]);
    b.composite(UNION, "", 8, &[("", 8, 0), ("", 8, 0), ("", 8, 0)]);
    visit_all(&parse(&b));
}

/// Everything that can be asked of every type.
fn visit_all(btf: &Btf) {
    for ty in btf.types() {
        ty.size();
        ty.strip();
        ty.is_signed();
        ty.array_len();
        ty.member("no.such[3].member");
        let name = ty.c_name();
        let definition = ty.definition();
        assert!(name.len() < 1 << 24 && definition.len() < 1 << 26);
        assert!(ty.definition_lines(true).len() < 1 << 16);
        for member in ty.members() {
            ty.member(member.name);
        }
        ty.enumerators().count();
        if !ty.name().is_empty() {
            btf.find(ty.name());
            btf.variable(ty.name());
            btf.is_percpu_variable(ty.name());
        }
    }
}

proptest! {
    #[test]
    fn damage_is_no_panic(damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut blob = small().builder.finish();
        for (at, byte) in damage {
            let at = at.index(blob.len());
            blob[at] = byte;
        }
        if let Ok(btf) = Btf::parse(blob) {
            visit_all(&btf);
        }
    }
}
