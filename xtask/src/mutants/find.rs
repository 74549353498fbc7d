//! Finds everything in a file that a mutant can be made of.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result};
use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    Arm, Attribute, BinOp, Block, Expr, ImplItemFn, Item, ItemFn, ItemImpl, Pat, Signature, Stmt, Token, UnOp,
};

use crate::mutants::constant::Constant;
use crate::mutants::mutant::{Edit, Mutant, squeezed};
use crate::mutants::values::{Answer, Types};

/// As much of the source is quoted in a mutant's name.
const QUOTED_MAX: usize = 70;

/// What is found in a file.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of their places.
    pub mutants: Vec<Mutant>,
    /// What must not stand in the copy: `const` before functions that ask for a switch, and assertions that
    /// the compiler checks and that call such functions.
    pub blanks: Vec<Range<usize>>,
}

/// Finds the mutants of the file at `path`, which is the module `module`.
pub fn mutants(path: &str, module: &str, source: &str, types: &Types, constant: &Constant) -> Result<Found> {
    let file = syn::parse_file(source).with_context(|| path.to_owned())?;
    let mut finder = Finder {
        path,
        source,
        types,
        constant,
        scope: vec![module.to_owned()],
        implements: String::new(),
        has_no_answer: false,
        is_discarded: false,
        found: Found::default(),
    };
    finder.visit_file(&file);
    let mut found = finder.found;
    found.mutants.sort_by_key(|mutant| (mutant.line, mutant.column));
    number_repetitions(&mut found.mutants);
    Ok(found)
}

/// Two that would be called the same are told apart by a number.
fn number_repetitions(mutants: &mut [Mutant]) {
    let mut times = BTreeMap::new();
    for mutant in mutants {
        let times = times.entry(mutant.key()).or_insert(0);
        *times += 1;
        if *times > 1 {
            mutant.change.push_str(&format!(" ({times})"));
        }
    }
}

struct Finder<'a> {
    path: &'a str,
    source: &'a str,
    types: &'a Types,
    constant: &'a Constant,
    /// Modules, the type that is implemented, functions.
    scope: Vec<String>,
    /// The trait that is being implemented.
    implements: String,
    /// Whether the function that is looked at answers nothing.
    has_no_answer: bool,
    /// Whether the value of the expression that is looked at next is used by nobody, or is `()`.
    is_discarded: bool,
    found: Found,
}

impl Finder<'_> {
    fn add(&mut self, at: Span, range: Range<usize>, change: String, edit: Edit) {
        let (start, scope) = (at.start(), self.scope.iter().filter(|part| !part.is_empty()));
        self.found.mutants.push(Mutant {
            file: self.path.to_owned(),
            line: start.line,
            column: start.column + 1,
            function: scope.cloned().collect::<Vec<_>>().join("::"),
            change,
            range,
            edit,
        });
    }

    fn text(&self, of: &impl Spanned) -> &str {
        &self.source[of.span().byte_range()]
    }

    fn quoted(&self, of: &impl Spanned) -> String {
        let text = squeezed(self.text(of));
        match text.char_indices().nth(QUOTED_MAX) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }

    fn function(&mut self, attributes: &[Attribute], signature: &Signature, block: &Block) {
        let name = signature.ident.to_string();
        if is_test(attributes) || signature.unsafety.is_some() {
            return;
        }
        if let Some(word) = &signature.constness {
            if self.constant.needs(&name) {
                return;
            }
            self.found.blanks.push(word.span().byte_range());
        }
        self.scope.push(name);
        // What `Default` answers is what would be put in its place.
        if self.implements != "Default" {
            self.body(signature, block);
        }
        let has_no_answer =
            self.types.answers(self.path, &signature.output) == [Answer::Value(String::from("()"))];
        let outside = std::mem::replace(&mut self.has_no_answer, has_no_answer);
        self.is_discarded = has_no_answer;
        self.visit_block(block);
        self.has_no_answer = outside;
        self.scope.pop();
    }

    fn body(&mut self, signature: &Signature, block: &Block) {
        let inside =
            block.brace_token.span.open().byte_range().end..block.brace_token.span.close().byte_range().start;
        let body = squeezed(&self.source[inside.clone()]);
        if body.is_empty() {
            return;
        }
        for answer in self.types.answers(self.path, &signature.output) {
            let at = signature.ident.span();
            match answer {
                Answer::Value(value) if value == body => {}
                Answer::Value(value) => {
                    let change = format!(
                        "replace body with {}",
                        value.replace("::std::", "").replace("boxed::", "")
                    );
                    self.add(at, inside.clone(), change, Edit::Return(value));
                }
                Answer::NoItems => {
                    let change = String::from("replace body with an empty iterator");
                    self.add(at, inside.clone(), change, Edit::Emptied);
                }
            }
        }
    }

    fn skip(&mut self, what: &Expr, range: Range<usize>) {
        let is_call = |what: &Expr| matches!(what, Expr::Call(_) | Expr::MethodCall(_));
        let is_deed = match what {
            Expr::Try(tried) => is_call(&tried.expr),
            Expr::Assign(assign) => !matches!(*assign.left, Expr::Infer(_)),
            _ => is_call(what),
        };
        if is_deed {
            let change = format!("delete {}", self.quoted(what));
            self.add(what.span(), range, change, Edit::Skipped);
        }
    }

    fn binary(&mut self, whole: &syn::ExprBinary) {
        let others: &[&str] = match whole.op {
            BinOp::Eq(_) => &["!="],
            BinOp::Ne(_) => &["=="],
            BinOp::Lt(_) => &["==", ">", "<="],
            BinOp::Gt(_) => &["==", "<", ">="],
            BinOp::Le(_) => &[">", "<"],
            BinOp::Ge(_) => &["<", ">"],
            // One that binds a name has no other side.
            BinOp::And(_) if binds(&whole.left) || binds(&whole.right) => &[],
            BinOp::And(_) => &["||"],
            BinOp::Or(_) => &["&&"],
            BinOp::Add(_) => &["-", "*"],
            BinOp::Sub(_) | BinOp::Mul(_) => &["+", "/"],
            BinOp::Div(_) => &["%", "*"],
            BinOp::Rem(_) => &["/", "+"],
            BinOp::BitAnd(_) => &["|", "^"],
            BinOp::BitOr(_) => &["&", "^"],
            BinOp::BitXor(_) => &["|", "&"],
            BinOp::Shl(_) => &[">>"],
            BinOp::Shr(_) => &["<<"],
            BinOp::AddAssign(_) => &["-=", "*="],
            BinOp::SubAssign(_) | BinOp::MulAssign(_) => &["+=", "/="],
            BinOp::DivAssign(_) => &["%=", "*="],
            BinOp::RemAssign(_) => &["/=", "+="],
            BinOp::BitAndAssign(_) => &["|=", "^="],
            BinOp::BitOrAssign(_) => &["&=", "^="],
            BinOp::BitXorAssign(_) => &["|=", "&="],
            BinOp::ShlAssign(_) => &[">>="],
            BinOp::ShrAssign(_) => &["<<="],
            _ => &[],
        };
        let (left, right, is) = (
            self.text(&whole.left),
            self.text(&whole.right),
            self.text(&whole.op),
        );
        // `a + b` is taken apart when it becomes a side of `*`; a place that is assigned to is not.
        let sides = if is.ends_with('=') && !matches!(is, "==" | "!=" | "<=" | ">=") {
            (left.to_owned(), format!("({right})"))
        } else {
            (format!("({left})"), format!("({right})"))
        };
        let (quoted, is) = (self.quoted(whole), is.to_owned());
        for other in others {
            let change = format!("replace {is} with {other} in {quoted}");
            let edit = Edit::Instead(format!("{} {other} {}", sides.0, sides.1));
            self.add(whole.op.span(), whole.span().byte_range(), change, edit);
        }
    }

    /// The condition of a match arm.
    fn condition(&mut self, condition: &Expr) {
        if !binds(condition) {
            let (at, range) = (condition.span(), condition.span().byte_range());
            let quoted = self.quoted(condition);
            for (value, edit) in [("true", Edit::AlwaysTaken), ("false", Edit::NeverTaken)] {
                self.add(
                    at,
                    range.clone(),
                    format!("replace guard with {value}: {quoted}"),
                    edit,
                );
            }
        }
        self.visit_expr(condition);
    }

    fn delete_arm(&mut self, arm: &Arm) {
        let change = format!("delete arm {}", self.quoted(&arm.pat));
        match &arm.guard {
            // As good as its condition never holding, which is tried.
            Some(_) => {}
            None => {
                let behind = arm.pat.span().byte_range().end;
                self.add(arm.pat.span(), behind..behind, change, Edit::NeverMatched);
            }
        }
    }

    fn block(&mut self, block: &Block, is_discarded: bool) {
        self.is_discarded = is_discarded;
        self.visit_block(block);
    }

    fn discarded(&mut self, expr: &Expr) {
        self.is_discarded = true;
        self.visit_expr(expr);
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if !is_test(&module.attrs) => {
                self.scope.push(module.ident.to_string());
                visit::visit_item_mod(self, module);
                self.scope.pop();
            }
            Item::Fn(_) | Item::Impl(_) | Item::Trait(_) => visit::visit_item(self, item),
            Item::Const(checked) if checked.ident == "_" => {
                self.found.blanks.push(checked.span().byte_range());
            }
            _ => {}
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.attrs, &item.sig, &item.block);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if is_test(&item.attrs) {
            return;
        }
        let of = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
            other => Some(squeezed(self.text(other))),
        };
        let of = of.unwrap_or_default();
        let implements = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
        self.implements = implements.map(|last| last.ident.to_string()).unwrap_or_default();
        self.scope.push(match implements {
            Some(last) => format!("<{of} as {}>", squeezed(self.text(last))),
            None => of,
        });
        for item in &item.items {
            self.visit_impl_item(item);
        }
        self.scope.pop();
        self.implements.clear();
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.attrs, &item.sig, &item.block);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.attrs, &item.sig, block);
        }
    }

    // What is computed when it is compiled cannot ask for a switch, and what is in patterns and types is.
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'ast syn::TraitItemConst) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_pat(&mut self, _: &'ast Pat) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_path(&mut self, _: &'ast syn::Path) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_block(&mut self, block: &'ast Block) {
        let is_discarded = std::mem::take(&mut self.is_discarded);
        let last = block.stmts.len().saturating_sub(1);
        for (index, stmt) in block.stmts.iter().enumerate() {
            match stmt {
                Stmt::Expr(expr, None) if index == last => {
                    self.is_discarded = is_discarded;
                    self.visit_expr(expr);
                }
                Stmt::Expr(expr, None) => self.discarded(expr),
                Stmt::Expr(expr, Some(_)) => {
                    self.skip(expr, stmt.span().byte_range());
                    // It has been offered for deletion as a statement.
                    self.is_discarded = !matches!(
                        expr,
                        Expr::Call(_) | Expr::MethodCall(_) | Expr::Try(_) | Expr::Assign(_)
                    );
                    self.visit_expr(expr);
                }
                Stmt::Local(_) | Stmt::Item(_) | Stmt::Macro(_) => visit::visit_stmt(self, stmt),
            }
        }
    }

    fn visit_expr(&mut self, expr: &'ast Expr) {
        let is_discarded = std::mem::take(&mut self.is_discarded);
        match expr {
            Expr::If(branch) => {
                self.visit_expr(&branch.cond);
                self.block(&branch.then_branch, is_discarded || branch.else_branch.is_none());
                if let Some((_, other)) = &branch.else_branch {
                    self.is_discarded = is_discarded;
                    self.visit_expr(other);
                }
            }
            Expr::Match(choice) => {
                self.visit_expr(&choice.expr);
                let has_rest = |arm: &Arm| matches!(arm.pat, Pat::Wild(_)) && arm.guard.is_none();
                let rest = choice.arms.iter().position(has_rest).unwrap_or(0);
                for (index, arm) in choice.arms.iter().enumerate() {
                    if index < rest {
                        self.delete_arm(arm);
                    }
                    if let Some((_, condition)) = &arm.guard {
                        self.condition(condition);
                    }
                    self.is_discarded = is_discarded;
                    self.visit_expr(&arm.body);
                }
            }
            Expr::Block(inner) => self.block(&inner.block, is_discarded),
            Expr::ForLoop(each) => {
                self.visit_expr(&each.expr);
                self.block(&each.body, true);
            }
            Expr::While(each) => {
                self.visit_expr(&each.cond);
                self.block(&each.body, true);
            }
            Expr::Loop(each) => self.block(&each.body, true),
            Expr::Return(answer) => {
                if let Some(answer) = &answer.expr {
                    self.is_discarded = self.has_no_answer;
                    self.visit_expr(answer);
                }
            }
            Expr::Closure(closure) => {
                // Nobody has said what it answers.
                let outside = std::mem::replace(&mut self.has_no_answer, false);
                self.visit_expr(&closure.body);
                self.has_no_answer = outside;
            }
            Expr::Repeat(many) => self.visit_expr(&many.expr),
            _ => {
                if is_discarded {
                    self.skip(expr, expr.span().byte_range());
                }
                visit::visit_expr(self, expr);
            }
        }
    }

    fn visit_expr_binary(&mut self, whole: &'ast syn::ExprBinary) {
        self.binary(whole);
        visit::visit_expr_binary(self, whole);
    }

    fn visit_expr_unary(&mut self, whole: &'ast syn::ExprUnary) {
        if matches!(whole.op, UnOp::Not(_) | UnOp::Neg(_)) {
            let change = format!("delete {} in {}", self.text(&whole.op), self.quoted(whole));
            let edit = Edit::Instead(self.text(&whole.expr).to_owned());
            self.add(whole.op.span(), whole.span().byte_range(), change, edit);
        }
        visit::visit_expr_unary(self, whole);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        if call.path.is_ident("matches")
            && let Ok(Matches { value, condition }) = call.parse_body()
        {
            self.visit_expr(&value);
            if let Some(condition) = condition {
                self.condition(&condition);
            }
        }
    }
}

/// What stands between the brackets of `matches!`.
struct Matches {
    value: Expr,
    condition: Option<Expr>,
}

impl Parse for Matches {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let value = input.parse()?;
        input.parse::<Token![,]>()?;
        Pat::parse_multi_with_leading_vert(input)?;
        let condition = match input.parse::<Option<Token![if]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        input.parse::<Option<Token![,]>>()?;
        Ok(Matches { value, condition })
    }
}

/// Whether a condition binds names, with `let`, for what follows it.
fn binds(condition: &Expr) -> bool {
    match condition {
        Expr::Let(_) => true,
        Expr::Binary(both) => matches!(both.op, BinOp::And(_)) && (binds(&both.left) || binds(&both.right)),
        _ => false,
    }
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let mut is_test = attribute.path().is_ident("test");
        if attribute.path().is_ident("cfg") {
            let _ = attribute.parse_nested_meta(|meta| {
                is_test |= meta.path.is_ident("test");
                Ok(())
            });
        }
        is_test
    })
}
