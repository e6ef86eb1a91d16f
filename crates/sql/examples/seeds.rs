//! Writes the seeds of this crate's fuzz target: `cargo run --example seeds -- fuzz/seeds`.

use std::path::Path;

/// What statements may be made of.
const STATEMENTS: [(&str, &str); 8] = [
    ("group", "select state, count(*) from tasks group by 1 order by 2 desc"),
    (
        "join",
        "select t.pid, f.function from tasks t join frames f on f.task = t.addr where f.depth = 2",
    ),
    ("recursive", "with recursive n(i) as (select 1 union all select i+1 from n) select i from n"),
    ("text", "select hex(comm) || '\u{e9}', printf('%08x', pid), null, 1.5e3 from tasks limit 3;"),
    ("window", "select name, sum(bytes) over (order by bytes) from slab_caches limit 5"),
    ("several", "values (1), (2); select * from machine;\n.tables\nselect count(*) from log"),
    ("dot", ".schema tasks"),
    ("denied", "create table x (a); attach 'x' as y; pragma writable_schema = 1; vacuum into 'x'"),
];

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1) else {
        eprintln!("usage: seeds DIRECTORY");
        return Ok(());
    };
    let directory = Path::new(&directory).join("sql");
    std::fs::create_dir_all(&directory)?;
    STATEMENTS.iter().try_for_each(|(name, text)| std::fs::write(directory.join(name), text))
}
