//! `symbols`: the kernel's symbols and those of its modules.

use kmortem_kernel::Kernel;

use crate::schema::{Column, FillError, Rows, Table};

/// A symbol.
pub(crate) struct SymbolRow {
    addr: u64,
    kind: u8,
    name: String,
    module: Option<String>,
}

pub(crate) const SYMBOLS: Table<SymbolRow> = Table {
    name: "symbols",
    doc: "a symbol of the kernel or of a module",
    columns: &[
        // 0 is a value like others here.
        Column::address("addr", "its value", |_, s| format!("{:#x}", s.addr).into()),
        Column::text("type", "the letter of nm(1)", |_, s| char::from(s.kind).to_string().into()),
        Column::text("name", "its name", |_, s| s.name.as_str().into()),
        Column::text("module", "the module; NULL: the kernel itself", |_, s| {
            s.module.as_deref().into()
        }),
    ],
    rows,
};

fn rows(kernel: &Kernel, rows: &mut Rows<'_, SymbolRow>) -> Result<(), FillError> {
    for symbol in kernel.kallsyms()?.iter() {
        let (addr, kind, name) = (symbol.addr, symbol.kind, symbol.name);
        rows.push(&SymbolRow { addr, kind, name, module: None })?;
    }
    for module in kernel.modules()? {
        match module.symbols(kernel) {
            Ok(symbols) => {
                for (addr, kind, name) in symbols.iter() {
                    let (name, of) = (name.to_owned(), Some(module.name.clone()));
                    rows.push(&SymbolRow { addr, kind, name, module: of })?;
                }
            }
            Err(error) => rows.remark(format_args!("module {}: {error}", module.name)),
        }
    }
    Ok(())
}
