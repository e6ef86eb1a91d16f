//! Writes small seeds for the fuzz targets: `seeds DIR` makes `DIR/<target>/<name>`.

use std::path::Path;

use kmortem_testkit::{
    ChForm, CloudHypervisor, Compression, Elf, Entry, FcEncoding, Firecracker, Kdump, Load,
    Migration, Record, Sadump, Seekable, Vcpu, Vmss, XenCore, XenHost, XenVcpu, avml, flatten,
    libvirt_save, lime, lzop, notes, page,
};

fn main() -> std::io::Result<()> {
    let dir = std::env::args().nth(1).ok_or_else(|| std::io::Error::other("usage: seeds DIR"))?;
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let dir = Path::new(&dir).join(target);
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join(name), bytes)
    };
    for compression in Compression::ALL {
        let name = format!("kdump-{compression:?}").to_lowercase();
        put("open_image", &name, &kdump(6, compression).build())?;
    }
    for version in [1, 2, 3, 5] {
        let dump = kdump(version, Compression::Zlib).build();
        put("open_image", &format!("kdump-v{version}"), &dump)?;
    }
    let part = kdump(6, Compression::Lzo).part(2..200).build();
    put("open_image", "kdump-part", &part)?;
    let elf = elf();
    put("open_image", "elf", &elf.build())?;
    put("open_image", "elf-qemu", &Elf { ehsize: 8, phoff: 192, ..elf.clone() }.build())?;
    put("open_image", "elf-xnum", &Elf { xnum: true, ..elf.clone() }.build())?;
    // Without its header, which the target writes.
    put("flattened", "kdump", &flatten(&kdump(6, Compression::Zstd).build(), 5000)[4096..])?;
    put("flattened", "elf", &flatten(&elf.build(), 700)[4096..])?;
    // These without the magic numbers too: a byte chooses one.
    let small = elf.build();
    let behind = |kind: u8, magic: usize, bytes: &[u8]| [&[kind], &bytes[magic..]].concat();
    put("compressed", "gzip", &behind(0, 4, &gzip(&small)))?;
    put("compressed", "zstd", &behind(3, 4, &Compression::Zstd.compress(&small)))?;
    put("compressed", "lzop", &behind(5, 9, &lzop(&small, 3000)))?;
    let mut stream = Migration::of(3);
    stream.records.push(Record::Fill(1, 0, 1));
    stream.records.push(Record::Page(0, 1, page(9)));
    put("migration", "stream", &behind(1, 8, &stream.build()))?;
    let mapped = Migration { mapped: Some(4096), ..Migration::of(3) };
    put("migration", "mapped", &behind(1, 8, &mapped.build()))?;
    put("migration", "saved", &behind(0, 16, &libvirt_save(&Migration::of(1).build(), 0)))?;
    let ranges = [(0x1000, page(1)), (0x10_0000, page(2))];
    put("memory_image", "lime", &behind(0, 8, &lime(&ranges)))?;
    put("memory_image", "avml", &behind(1, 8, &avml(&ranges)))?;
    put("memory_image", "raw", &behind(2, 0, &page(5)))?;
    // The target writes the first 64 bytes, the ELF header.
    let vcpus = vec![XenVcpu { flags: 0x24, cs: 0xe033, ..XenVcpu::default() }.context()];
    for (name, core) in [("pv", XenCore::pv(3)), ("hvm", XenCore::hvm(3))] {
        let core = XenCore { vcpus: vcpus.clone(), ..core };
        put("xen_core", name, &core.build()[64..])?;
    }
    let state = Vmss::of(&[(1, 0, 2), (0x10_0000, 2, 1)], &[Vcpu::numbered(0)]);
    put("vmware", "beside", &behind(0x82, 4, &state.build()))?;
    let blocks = state.clone().with_blocks(&[Vcpu::numbered(0)]);
    put("vmware", "blocks", &behind(0x83, 4, &blocks.build()))?;
    let within = [page(1), page(2), page(3)].concat();
    put("vmware", "within", &behind(2, 4, &state.with_memory(5, within).build()))?;
    let ranges = [(0, 1 << 20), (1 << 32, 1 << 20)];
    for (name, encoding) in [
        ("versionize", FcEncoding::Versionize(4)),
        ("bincode", FcEncoding::Bincode("3.0.0")),
        ("slots", FcEncoding::Bincode("8.0.0")),
    ] {
        let state = Firecracker::of(encoding, &ranges, &[Vcpu::numbered(0)]).build();
        put("firecracker", name, &behind(state[0], 8, &state))?;
    }
    let columns = FcEncoding::Bitcode("9.0.0");
    let state = Firecracker::of(columns, &ranges[..1], &[Vcpu::numbered(0)]).build();
    put("firecracker", "columns", &behind(2, 9, &state))?;
    let host = XenHost { cpus: vec![([0x1111; 27], 0x5000)], ..XenHost::of(3) };
    put("xen_host", "host", &host.elf().build())?;
    // Without the partition header, which the target writes.
    let partition = Sadump::of([1, 2, 9], &[Vcpu::numbered(0)]);
    let set = Sadump { pages_on_disks: vec![2], ..partition.clone() };
    for (kind, name, dump) in [(0, "single", partition), (1, "set", set)] {
        let files = dump.build(page);
        put("sadump", name, &[&[kind], &files[0][4096..]].concat())?;
    }
    for (name, form) in [("named", ChForm::Named), ("bytes", ChForm::Bytes), ("text", ChForm::Text)]
    {
        let vcpus = vec![Vcpu::numbered(0)];
        let state = CloudHypervisor { form, ranges: vec![(0, 0x8000), (1 << 32, 0x8000)], vcpus };
        put("cloud_hypervisor", name, &state.build())?;
    }
    for (name, first) in [("foreign", 0u8), ("ours", 1)] {
        let file = Seekable::of(&kdump(6, Compression::Lzo).build(), 3000);
        let file = Seekable { checksums: first == 0, cut_off: first == 1, ..file };
        put("archive", name, &[vec![first], file.build()].concat())?;
    }
    for compression in [Compression::Raw, Compression::Zstd] {
        let name = format!("kdump-{compression:?}").to_lowercase();
        put("convert", &name, &kdump(6, compression).build())?;
    }
    put("convert", "elf", &elf.build())?;
    put("vmcoreinfo", "kernel", VMCOREINFO.as_bytes())?;
    put("elf_notes", "qemu", &all_notes())
}

const VMCOREINFO: &str = "OSRELEASE=6.1.0-56-cloud-amd64\nBUILD-ID=53e5a1\nPAGESIZE=4096\n\
    SYMBOL(init_uts_ns)=ffffffff94e196c0\nOFFSET(list_head.next)=0\nSIZE(page)=64\n\
    LENGTH(zone.free_area)=11\nNUMBER(phys_base)=-1048576\nNUMBER(kimage_voffset)=0xffff8000\n\
    KERNELOFFSET=13200000\nCRASHTIME=1795371000\n";

fn all_notes() -> Vec<u8> {
    [
        notes::prstatus_x86_64(1, &[0x1111; 27]),
        notes::qemu_cpu(0x2222),
        notes::prstatus_aarch64(3, &[0x3333; 34]),
        notes::vmcoreinfo(VMCOREINFO),
    ]
    .concat()
}

/// Few pages, and those of few bytes when compressed: a fuzzer is quick on small inputs.
fn kdump(version: u32, compression: Compression) -> Kdump {
    let mut dump = Kdump { version, ..Kdump::of([0, 150], 200).compressed(compression) };
    dump.pages.insert(3, Entry::Page(vec![0; 4096]));
    dump.pages.insert(4, Entry::Lost);
    dump.vmcoreinfo = VMCOREINFO.into();
    dump.notes = all_notes();
    dump
}

/// RFC 1952: a header around deflate's stream, which zlib's has within.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let zlib = Compression::Zlib.compress(bytes);
    let mut file = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    file.extend(&zlib[2..zlib.len() - 4]);
    // The checksum, which is wrong: what came before it counts.
    file.extend([0; 4]);
    file.extend((bytes.len() as u32).to_le_bytes());
    file
}

fn elf() -> Elf {
    let mut elf = Elf::default().load(0x1000, page(1));
    elf.loads.push(Load { vaddr: 5 << 40, paddr: 0x1800, mem_len: 0x4000, bytes: page(2) });
    elf.notes = vec![all_notes()];
    elf
}
