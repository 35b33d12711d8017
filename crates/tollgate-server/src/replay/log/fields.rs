//! Which fields of a JSON line the user wants, and a tree to find them while the line is scanned.

use thiserror::Error;

use super::names::Role;

/// The most attributes that can be asked for.
pub(super) const ATTRIBUTES_MAX: usize = 256;

/// Where the parts of a request are in a JSON line.
///
/// Made from arguments such as `client=request.ip`. The names `time`, `client`, `user`, `method`, `target` (the path
/// with its query), `request` (a whole request line), `status`, `bytes` and `user_agent` say where to find that part,
/// instead of the field names that common servers use. Any other name is an attribute of the user's own, such as
/// `api_key=request.headers.X-Api-Key`. A name given twice has two fields, tried in turn.
///
/// A field with points is first looked for by its whole name, then level by level; of a list, the first element counts.
///
/// A time may be written as in RFC 3339, as in the common log format, or as a number since the epoch, whose size
/// tells its unit: below 10¹¹ seconds, below 10¹⁴ milliseconds, below 10¹⁷ microseconds, else nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct FieldNames {
    roles: [Vec<String>; Role::COUNT],
    attributes: Vec<(String, Vec<String>)>,
}

impl FieldNames {
    /// The names in `specs`, each like `name=field`; the usual ones for every part that is not among them.
    pub(crate) fn parse<S: AsRef<str>>(specs: impl IntoIterator<Item = S>) -> Result<Self, FieldError> {
        let mut names = Self { roles: Default::default(), attributes: Vec::new() };
        for spec in specs {
            names.add(spec.as_ref())?;
        }
        for role in Role::ALL {
            let fields = &mut names.roles[role as usize];
            if fields.is_empty() {
                fields.extend(role.defaults().iter().map(|field| (*field).to_owned()));
            }
        }
        Ok(names)
    }

    /// The names of the attributes: the place of a name here is its index in
    /// [`Entry::attribute`](super::Entry::attribute).
    pub(crate) fn attribute_names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.attributes.iter().map(|(name, _)| name.as_str())
    }

    /// The fields of a part, in the order they are tried.
    pub(super) fn of(&self, role: Role) -> &[String] {
        &self.roles[role as usize]
    }

    fn add(&mut self, spec: &str) -> Result<(), FieldError> {
        let (name, field) =
            spec.split_once('=').ok_or_else(|| FieldError::Syntax { spec: spec.to_owned() })?;
        if field.is_empty() {
            return Err(FieldError::Empty { spec: spec.to_owned() });
        }
        if name.is_empty()
            || !name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.' | b':'))
        {
            return Err(FieldError::Name { name: name.to_owned() });
        }
        if let Some(role) = Role::ALL.into_iter().find(|role| role.name() == name) {
            self.roles[role as usize].push(field.to_owned());
            return Ok(());
        }
        match self.attributes.iter().position(|(known, _)| known == name) {
            Some(index) => self.attributes[index].1.push(field.to_owned()),
            None if self.attributes.len() == ATTRIBUTES_MAX => return Err(FieldError::TooMany),
            None => self.attributes.push((name.to_owned(), vec![field.to_owned()])),
        }
        Ok(())
    }
}

impl Default for FieldNames {
    /// The field names of common servers, and no attributes.
    fn default() -> Self {
        let roles = Role::ALL.map(|role| role.defaults().iter().map(|field| (*field).to_owned()).collect());
        Self { roles, attributes: Vec::new() }
    }
}

/// A field name that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum FieldError {
    /// It has no `=`.
    #[error("`{spec}` is no field name; write name=field, for example client=request.ip")]
    Syntax {
        /// What was given.
        spec: String,
    },

    /// Nothing follows the `=`.
    #[error("`{spec}` names no field; write name=field, for example client=request.ip")]
    Empty {
        /// What was given.
        spec: String,
    },

    /// The name has other characters than it may.
    #[error("`{name}` cannot be the name of an attribute; use letters, digits, `_`, `-`, `.` and `:`")]
    Name {
        /// What was given.
        name: String,
    },

    /// Nobody needs so many.
    #[error("more than {ATTRIBUTES_MAX} attributes; leave out those that no policy uses")]
    TooMany,
}

/// The fields of [`FieldNames`], ready to be found while a line is scanned from its start to its end.
///
/// Each different field has a slot for its value. The tree has a node for every beginning of a field that ends before a
/// point; from it, an edge leads on by any further part, so that `a.b.c` is found as `{"a.b.c":}`, `{"a":{"b":{"c":}}}`
/// and `{"a":{"b.c":}}` alike.
#[derive(Debug)]
pub(super) struct Wanted {
    nodes: Vec<Node>,
    /// Each slot's field.
    slots: Vec<String>,
    roles: [Vec<usize>; Role::COUNT],
    attributes: Vec<Vec<usize>>,
}

/// Where the fields of one object in a line lead to, by the length of their names.
#[derive(Debug, Default)]
struct Node {
    by_length: Vec<Vec<Edge>>,
}

/// What a field of an object is good for.
#[derive(Clone, Debug, Default)]
pub(super) struct Edge {
    name: Box<[u8]>,
    /// Its value is wanted.
    pub(super) slot: Option<usize>,
    /// It can hold an object with wanted fields.
    pub(super) node: Option<usize>,
}

impl Wanted {
    /// The node of the line's own object.
    pub(super) const ROOT: usize = 0;

    pub(super) fn new(names: &FieldNames) -> Self {
        let mut wanted = Self {
            nodes: vec![Node::default()],
            slots: Vec::new(),
            roles: Default::default(),
            attributes: Vec::new(),
        };
        // The node of each beginning of a field.
        let mut known = vec![(String::new(), Self::ROOT)];
        for role in Role::ALL {
            wanted.roles[role as usize] =
                names.of(role).iter().map(|field| wanted.insert(field, &mut known)).collect();
        }
        for (_, fields) in &names.attributes {
            let slots = fields.iter().map(|field| wanted.insert(field, &mut known)).collect();
            wanted.attributes.push(slots);
        }
        wanted
    }

    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// The slots of a part of the request, in the order they are tried.
    pub(super) fn role(&self, role: Role) -> &[usize] {
        &self.roles[role as usize]
    }

    /// The slots of each attribute.
    pub(super) fn attributes(&self) -> &[Vec<usize>] {
        &self.attributes
    }

    /// What the field of that name is good for in an object at `node`.
    pub(super) fn find(&self, node: usize, name: &[u8]) -> Option<&Edge> {
        self.nodes[node].by_length.get(name.len())?.iter().find(|edge| *edge.name == *name)
    }

    /// The slot of a field, made if it is new, with all ways that lead to it.
    fn insert(&mut self, field: &str, known: &mut Vec<(String, usize)>) -> usize {
        if let Some(slot) = self.slots.iter().position(|other| other == field) {
            return slot;
        }
        let slot = self.slots.len();
        self.slots.push(field.to_owned());

        // The places where a part begins, each with the node of what stands before it.
        let mut begins = vec![(0, Self::ROOT)];
        for (point, _) in field.match_indices('.') {
            let old = known.iter().find(|(begin, _)| *begin == field[..=point]).map(|(_, node)| *node);
            let node = old.unwrap_or_else(|| {
                self.nodes.push(Node::default());
                known.push((field[..=point].to_owned(), self.nodes.len() - 1));
                self.nodes.len() - 1
            });
            for (begin, from) in &begins {
                self.nodes[*from].edge(&field[*begin..point]).node = Some(node);
            }
            begins.push((point + 1, node));
        }
        for (begin, from) in begins {
            self.nodes[from].edge(&field[begin..]).slot = Some(slot);
        }
        slot
    }
}

impl Node {
    /// The edge of that name, made if it is new.
    fn edge(&mut self, name: &str) -> &mut Edge {
        if self.by_length.len() <= name.len() {
            self.by_length.resize(name.len() + 1, Vec::new());
        }
        let edges = &mut self.by_length[name.len()];
        let at = edges.iter().position(|edge| *edge.name == *name.as_bytes()).unwrap_or_else(|| {
            edges.push(Edge { name: name.as_bytes().into(), ..Edge::default() });
            edges.len() - 1
        });
        &mut edges[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed() {
        let names =
            FieldNames::parse(["client=request.ip", "api_key=headers.X-Api-Key", "client=ip", "api_key=k=1"]);
        let names = names.unwrap();
        assert_eq!(names.of(Role::Client), ["request.ip", "ip"]);
        assert_eq!(names.of(Role::Time), Role::Time.defaults());
        assert_eq!(names.attribute_names().collect::<Vec<_>>(), ["api_key"]);
        assert_eq!(names.attributes[0].1, ["headers.X-Api-Key", "k=1"]);
    }

    #[test]
    fn names_with_unknown_syntax_are_refused() {
        let refused = |spec: &str| FieldNames::parse([spec]).unwrap_err().to_string();
        assert_eq!(
            refused("client"),
            "`client` is no field name; write name=field, for example client=request.ip"
        );
        assert_eq!(
            refused("client="),
            "`client=` names no field; write name=field, for example client=request.ip"
        );
        assert_eq!(
            refused("=a"),
            "`` cannot be the name of an attribute; use letters, digits, `_`, `-`, `.` and `:`"
        );
        assert!(refused("api key=a").starts_with("`api key` cannot be the name"));
        let many: Vec<String> = (0..257).map(|index| format!("a{index}=b")).collect();
        assert_eq!(FieldNames::parse(&many[..256]).unwrap().attribute_names().len(), 256);
        assert_eq!(FieldNames::parse(&many).unwrap_err(), FieldError::TooMany);
    }

    #[test]
    fn every_division_of_a_field_leads_to_its_slot() {
        let wanted = Wanted::new(&FieldNames::parse(["x=a.b.c", "y=a.b", "z=a.b.c"]).unwrap());
        let [x, y, z] = [0, 1, 2].map(|index| wanted.attributes()[index][0]);
        assert_eq!(x, z);
        let walk = |names: &[&str]| {
            let (last, first) = names.split_last().unwrap();
            let node = first
                .iter()
                .fold(Wanted::ROOT, |node, name| wanted.find(node, name.as_bytes()).unwrap().node.unwrap());
            wanted.find(node, last.as_bytes()).and_then(|edge| edge.slot)
        };
        for way in [&["a.b.c"][..], &["a", "b", "c"], &["a.b", "c"], &["a", "b.c"]] {
            assert_eq!(walk(way), Some(x), "{way:?}");
        }
        assert_eq!(walk(&["a.b"]), Some(y));
        assert_eq!(walk(&["a", "b"]), Some(y));
        assert_eq!(walk(&["a"]), None);
        assert!(wanted.find(Wanted::ROOT, b"c").is_none());
        assert!(wanted.find(Wanted::ROOT, b"").is_none());
    }

    #[test]
    fn a_field_of_many_points_needs_no_more_than_their_square() {
        let wanted = Wanted::new(&FieldNames::parse([format!("x={}", ".".repeat(200))]).unwrap());
        assert!(wanted.nodes.len() < 300);
    }
}
