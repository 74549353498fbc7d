//! Which functions must stay `const`.
//!
//! A `const fn` cannot ask for a switch. Most are called when the program runs too, and need not be `const` in the
//! copy. Those that a constant, or the length of an array, is computed with stay as they are; calls are told apart
//! by name only, which may leave out one too many.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};
use syn::{Block, Expr, ItemConst, Signature};

/// The names of the functions that something is computed with at compile time.
#[derive(Debug, Default)]
pub struct Constant {
    needed: BTreeSet<String>,
    /// What each `const fn` calls.
    calls: BTreeMap<String, BTreeSet<String>>,
}

impl Constant {
    /// Takes note of a file.
    pub fn learn(&mut self, file: &syn::File) {
        let mut scan = Scan {
            constant: self,
            within: Within::Program,
        };
        scan.visit_file(file);
    }

    /// Follows the calls, after the last file.
    pub fn settle(&mut self) {
        let mut edge: Vec<String> = self.needed.iter().cloned().collect();
        while let Some(name) = edge.pop() {
            for called in self.calls.get(&name).into_iter().flatten() {
                if self.needed.insert(called.clone()) {
                    edge.push(called.clone());
                }
            }
        }
    }

    /// Whether a function of this name must stay `const`.
    pub fn needs(&self, name: &str) -> bool {
        self.needed.contains(name)
    }
}

/// What the scan is in.
#[derive(Clone)]
enum Within {
    /// What runs.
    Program,
    /// What is computed at compile time.
    Constant,
    /// A function of this name that may be called from there.
    Function(String),
}

struct Scan<'a> {
    constant: &'a mut Constant,
    within: Within,
}

impl Scan<'_> {
    fn within(&mut self, within: Within, scan: impl FnOnce(&mut Self)) {
        let outside = std::mem::replace(&mut self.within, within);
        scan(self);
        self.within = outside;
    }

    fn constant(&mut self, expr: &Expr) {
        self.within(Within::Constant, |scan| scan.visit_expr(expr));
    }

    fn function(&mut self, signature: &Signature, block: &Block) {
        let within = match signature.constness {
            Some(_) => Within::Function(signature.ident.to_string()),
            None => Within::Program,
        };
        self.within(within, |scan| {
            scan.visit_signature(signature);
            scan.visit_block(block);
        });
    }

    fn called(&mut self, name: String) {
        match &self.within {
            Within::Program => {}
            Within::Constant => {
                self.constant.needed.insert(name);
            }
            Within::Function(by) => {
                self.constant.calls.entry(by.clone()).or_default().insert(name);
            }
        }
    }
}

impl<'ast> Visit<'ast> for Scan<'_> {
    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        // An assertion that the compiler checks is left out of the copy.
        if item.ident != "_" {
            self.visit_type(&item.ty);
            self.constant(&item.expr);
        }
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.visit_type(&item.ty);
        self.constant(&item.expr);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.constant(&item.expr);
    }

    fn visit_trait_item_const(&mut self, item: &'ast syn::TraitItemConst) {
        if let Some((_, expr)) = &item.default {
            self.constant(expr);
        }
    }

    fn visit_expr_const(&mut self, inner: &'ast syn::ExprConst) {
        self.within(Within::Constant, |scan| scan.visit_block(&inner.block));
    }

    fn visit_type_array(&mut self, array: &'ast syn::TypeArray) {
        self.constant(&array.len);
    }

    fn visit_expr_repeat(&mut self, many: &'ast syn::ExprRepeat) {
        self.visit_expr(&many.expr);
        self.constant(&many.len);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        if let Some((_, number)) = &variant.discriminant {
            self.constant(number);
        }
        visit::visit_fields(self, &variant.fields);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
    }

    fn visit_expr_call(&mut self, call: &'ast syn::ExprCall) {
        if let Expr::Path(function) = &*call.func
            && let Some(last) = function.path.segments.last()
        {
            self.called(last.ident.to_string());
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.called(call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_constant_is_computed_with_stays_const() {
        let mut constant = Constant::default();
        let text = "
            const A: u8 = a(1);
            static B: [u8; b()] = [0; c()];
            const _: () = assert!(checked());
            const fn a(x: u8) -> u8 { d(x).e() }
            impl X { const M: u8 = f(); const fn e(self) -> u8 { 1 } }
            fn program() { g(); let x = const { h() }; }
            const fn g() {}
        ";
        constant.learn(&syn::parse_str(text).unwrap());
        constant.settle();
        for needed in ["a", "b", "c", "d", "e", "f", "h"] {
            assert!(constant.needs(needed), "{needed}");
        }
        for free in ["checked", "g", "program"] {
            assert!(!constant.needs(free), "{free}");
        }
    }
}
