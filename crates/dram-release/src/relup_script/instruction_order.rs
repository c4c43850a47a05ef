//! The order of instructions that depend on each other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::RelupScriptError;
use super::instruction::ModuleChange;

/// Module changes in groups that are connected by dependencies.
#[derive(Debug)]
pub(super) struct DependencyGroups {
    /// The group of each module.
    group_of_module: BTreeMap<String, usize>,
    /// The changes of each group; each one before those that it depends on. If dependencies allow several orders, and
    /// within cycles, the order of the script is kept.
    groups: Vec<Vec<ModuleChange>>,
}

impl DependencyGroups {
    /// Computes the groups of `changes`.
    ///
    /// # Errors
    /// Fails if a module has two instructions, or depends on a module that has none.
    pub(super) fn from_changes(changes: Vec<ModuleChange>) -> Result<DependencyGroups, RelupScriptError> {
        let mut numbers = BTreeMap::new();
        for (number, change) in changes.iter().enumerate() {
            if numbers.insert(change.code.module.clone(), number).is_some() {
                return Err(RelupScriptError::DuplicateInstruction(change.code.module.clone()));
            }
        }
        let number =
            |name: &String| numbers.get(name).copied().ok_or_else(|| RelupScriptError::NoInstruction(name.clone()));
        let edges = changes.iter().map(|change| change.dep_modules.iter().map(number).collect::<Result<Vec<_>, _>>());
        let edges = edges.collect::<Result<Vec<_>, _>>()?;
        let together = weak_components(&edges);
        let circles = strong_components(&edges);
        let mut groups = vec![Vec::new(); changes.len()];
        let mut changes: Vec<_> = changes.into_iter().map(Some).collect();
        for number in topological_order(&edges, &circles) {
            groups[together[number]].extend(changes[number].take());
        }
        let of = numbers.into_iter().map(|(name, number)| (name, together[number])).collect();
        Ok(DependencyGroups { group_of_module: of, groups })
    }

    /// Takes the group of this module; empty if it was taken before.
    pub(super) fn take_group(&mut self, module: &str) -> Vec<ModuleChange> {
        let group = self.group_of_module.get(module).and_then(|&group| self.groups.get_mut(group));
        group.map(std::mem::take).unwrap_or_default()
    }
}

/// Returns for each node the smallest node of its weakly connected component.
fn weak_components(edges: &[Vec<usize>]) -> Vec<usize> {
    let mut above: Vec<usize> = (0..edges.len()).collect();
    fn root(above: &mut [usize], mut node: usize) -> usize {
        while above[node] != node {
            above[node] = above[above[node]];
            node = above[node];
        }
        node
    }
    for (from, tos) in edges.iter().enumerate() {
        for &to in tos {
            let (one, other) = (root(&mut above, from), root(&mut above, to));
            above[one.max(other)] = one.min(other);
        }
    }
    (0..edges.len()).map(|node| root(&mut above, node)).collect()
}

/// Returns for each node the smallest node of its strongly connected component.
fn strong_components(edges: &[Vec<usize>]) -> Vec<usize> {
    let mut back = vec![Vec::new(); edges.len()];
    for (from, tos) in edges.iter().enumerate() {
        tos.iter().for_each(|&to| back[to].push(from));
    }
    // Kosaraju's algorithm: nodes in reverse order of finishing; the nodes that reach one backwards and are not yet
    // assigned form its component.
    let (mut seen, mut finished) = (vec![false; edges.len()], Vec::new());
    for start in 0..edges.len() {
        let mut path = Vec::new();
        if !std::mem::replace(&mut seen[start], true) {
            path.push((start, edges[start].iter()));
        }
        while let Some((node, rest)) = path.last_mut() {
            match rest.next() {
                Some(&next) if seen[next] => {}
                Some(&next) => {
                    seen[next] = true;
                    path.push((next, edges[next].iter()));
                }
                None => {
                    finished.push(*node);
                    path.pop();
                }
            }
        }
    }
    let mut circle = vec![usize::MAX; edges.len()];
    for &start in finished.iter().rev() {
        if circle[start] != usize::MAX {
            continue;
        }
        let (mut members, mut waiting) = (Vec::new(), vec![start]);
        circle[start] = start;
        while let Some(node) = waiting.pop() {
            members.push(node);
            for &next in back[node].iter() {
                if circle[next] == usize::MAX {
                    circle[next] = start;
                    waiting.push(next);
                }
            }
        }
        let least = members.iter().copied().min().unwrap_or(start);
        members.into_iter().for_each(|member| circle[member] = least);
    }
    circle
}

/// Returns all nodes in topological order of their components; if several components are ready, the smallest comes
/// first.
fn topological_order(edges: &[Vec<usize>], circles: &[usize]) -> Vec<usize> {
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    circles.iter().enumerate().for_each(|(node, &circle)| members.entry(circle).or_default().push(node));
    let mut before = vec![0_usize; edges.len()];
    let leads = |node: usize| edges[node].iter().map(|&to| circles[to]).filter(move |&to| to != circles[node]);
    (0..edges.len()).flat_map(leads).for_each(|to| before[to] += 1);
    let mut ready: BinaryHeap<_> = members.keys().copied().filter(|&circle| before[circle] == 0).map(Reverse).collect();
    let mut sorted = Vec::new();
    while let Some(Reverse(circle)) = ready.pop() {
        for &node in &members[&circle] {
            sorted.push(node);
            for to in leads(node) {
                before[to] -= 1;
                if before[to] == 0 {
                    ready.push(Reverse(to));
                }
            }
        }
    }
    sorted
}
