//! `section : others { }`: a section has what it says itself, then what those say that it refers to, in their order.

use std::collections::BTreeSet;

use super::error::ImportError;
use super::finding::Finding;
use super::tree::{Node, Value};
use super::{MAX_DEPTH, MAX_INHERITED};

/// A section with all that it inherits.
pub(super) struct Whole<'n> {
    pub(super) node: &'n Node,
    pub(super) values: Vec<(&'n str, &'n Value)>,
    pub(super) sections: Vec<(&'n str, Whole<'n>)>,
}

/// What comes of references.
pub(super) struct Inherited<'n> {
    pub(super) root: Whole<'n>,
    /// Sections at the top that others refer to.
    pub(super) templates: BTreeSet<&'n str>,
    /// References to nothing.
    pub(super) findings: Vec<Finding>,
}

pub(super) fn resolve(root: &Node) -> Result<Inherited<'_>, ImportError> {
    let mut resolver =
        Resolver { root, left: MAX_INHERITED, templates: BTreeSet::new(), findings: Vec::new() };
    // What nobody asks for at the top are templates: they are looked at where they are inherited.
    let whole = resolver.whole(&[root], 0)?;
    Ok(Inherited { root: whole, templates: resolver.templates, findings: resolver.findings })
}

struct Resolver<'n> {
    root: &'n Node,
    /// How much work may still be done.
    left: usize,
    templates: BTreeSet<&'n str>,
    findings: Vec<Finding>,
}

impl<'n> Resolver<'n> {
    fn whole(&mut self, layers: &[&'n Node], depth: usize) -> Result<Whole<'n>, ImportError> {
        if depth > MAX_DEPTH {
            return Err(ImportError::TooMuchInherited);
        }
        let mut seen = BTreeSet::new();
        let values = layers.iter().flat_map(|layer| layer.values.iter());
        let values: Vec<_> = values.filter(|(name, _)| seen.insert(*name)).collect();
        self.spend(values.len())?;
        let mut seen = BTreeSet::new();
        let names = layers.iter().flat_map(|layer| layer.sections.iter().map(|(name, _)| name));
        let names: Vec<_> = names.filter(|name| seen.insert(*name)).collect();
        let mut sections = Vec::with_capacity(names.len());
        for name in names {
            let inner = self.within(layers, name)?;
            sections.push((name, self.whole(&inner, depth + 1)?));
        }
        Ok(Whole { node: layers[0], values, sections })
    }

    /// What all layers say of a section in them, with what that refers to.
    fn within(&mut self, layers: &[&'n Node], name: &str) -> Result<Vec<&'n Node>, ImportError> {
        let mut found = Vec::new();
        for inner in layers.iter().filter_map(|layer| layer.sections.get(name)) {
            self.expand(inner, &mut found, 0)?;
        }
        Ok(found)
    }

    /// A section and those that it refers to, each once: a loop ends where it began.
    fn expand(&mut self, node: &'n Node, found: &mut Vec<&'n Node>, depth: usize) -> Result<(), ImportError> {
        self.spend(1 + found.len())?;
        if depth > MAX_DEPTH || found.iter().any(|known| std::ptr::eq(*known, node)) {
            return Ok(());
        }
        found.push(node);
        for reference in &node.references {
            let layers = self.find(reference, depth + 1)?;
            if layers.is_empty() {
                self.findings.push(Finding::of_reference(node.origin, reference));
            }
            for layer in layers {
                if !found.iter().any(|known| std::ptr::eq(*known, layer)) {
                    found.push(layer);
                }
            }
        }
        Ok(())
    }

    /// The section of that full name and what it refers to; empty if there is none.
    fn find(&mut self, name: &str, depth: usize) -> Result<Vec<&'n Node>, ImportError> {
        let mut layers = vec![self.root];
        for (place, part) in name.split('.').enumerate() {
            let mut inner = Vec::new();
            for node in layers.iter().filter_map(|layer| layer.sections.get(part)) {
                self.expand(node, &mut inner, depth)?;
            }
            if place == 0 {
                let known = self.root.sections.iter().find(|(known, _)| *known == part);
                self.templates.extend(known.map(|(known, _)| known));
            }
            layers = inner;
        }
        Ok(layers)
    }

    fn spend(&mut self, work: usize) -> Result<(), ImportError> {
        self.left = self.left.checked_sub(work).ok_or(ImportError::TooMuchInherited)?;
        Ok(())
    }
}
