"""BPF programs and maps."""

from drgn.helpers.linux.bpf import bpf_map_for_each, bpf_prog_for_each, bpf_prog_used_maps

from common import addr


def short(enumerator, prefix):
    return enumerator.format_(type_name=False).removeprefix(prefix)


def rows(prog):
    for p in bpf_prog_for_each(prog):
        yield {
            "object": "program",
            "id": p.aux.id.value_(),
            "addr": addr(p),
            "aux": addr(p.aux),
            "kind": short(p.type, "BPF_PROG_TYPE_"),
            "tag": bytes(p.tag.value_()).hex(),
            "maps": [m.id.value_() for m in bpf_prog_used_maps(p)],
            "name": p.aux.name.string_().decode(),
            "translated_bytes": p.len.value_() * 8,
            "jited_bytes": p.jited_len.value_(),
            "function": addr(p.bpf_func),
            "load_time_ns": p.aux.load_time.value_(),
            "gpl_compatible": bool(p.gpl_compatible),
        }
    for m in bpf_map_for_each(prog):
        yield {
            "object": "map",
            "id": m.id.value_(),
            "addr": addr(m),
            "kind": short(m.map_type, "BPF_MAP_TYPE_"),
            "key_size": m.key_size.value_(),
            "value_size": m.value_size.value_(),
            "max_entries": m.max_entries.value_(),
            "name": m.name.string_().decode(),
        }
