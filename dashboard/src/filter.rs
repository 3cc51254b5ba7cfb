//! Which devices a number counts, and a list shows: both ask the same question.

use serde::Deserialize;

use crate::clock::Moment;

/// What can be grouped and filtered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Facet {
    State,
    Contact,
    Agent,
    App,
    Policy,
    System,
}

impl Facet {
    /// Those of a report that lists show.
    pub(crate) const ALL: [Self; 6] =
        [Self::State, Self::Contact, Self::Agent, Self::App, Self::Policy, Self::System];

    /// The name in addresses.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Contact => "contact",
            Self::Agent => "agent",
            Self::App => "app",
            Self::Policy => "policy",
            Self::System => "system",
        }
    }

    /// Its value for a device, in SQL.
    pub(crate) fn expression(self, at: At) -> String {
        let column = match self {
            Self::State => "r.state",
            Self::Contact => return contact(at.moment),
            Self::Agent => "r.agent_version",
            Self::App => "r.app_version",
            Self::Policy => "r.policy",
            Self::System => "r.system",
        };
        column.to_owned()
    }
}

/// The values of [`Facet::Contact`]: whether a device has kept its promise to report.
pub(crate) const CONTACTS: [&str; 2] = ["reporting", "silent"];

/// Whether a device had kept its promises then, in SQL.
fn contact(moment: Moment) -> String {
    let [reporting, silent] = CONTACTS;
    format!(
        "CASE WHEN (SELECT p.until FROM presence p WHERE p.device = r.device AND p.since <= {moment}
            ORDER BY p.since DESC LIMIT 1) > {moment} THEN '{reporting}' ELSE '{silent}' END"
    )
}

/// Which devices, and when. The query of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Filter {
    pub(crate) state: Option<String>,
    pub(crate) contact: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) app: Option<String>,
    pub(crate) policy: Option<String>,
    pub(crate) system: Option<String>,
    /// A device that has this problem.
    pub(crate) problem: Option<String>,
    /// Part of the name of the device.
    pub(crate) search: Option<String>,
    /// Two devices have this identity: `yes`.
    pub(crate) conflict: Option<String>,
    /// As it was then: a time in the form of RFC 3339.
    pub(crate) at: Option<String>,
}

/// When a page shows the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) moment: Moment,
    /// It is the present.
    pub(crate) is_now: bool,
}

impl Filter {
    /// The value that a facet has to have.
    pub(crate) fn value(&self, facet: Facet) -> Option<&String> {
        let value = match facet {
            Facet::State => &self.state,
            Facet::Contact => &self.contact,
            Facet::Agent => &self.agent,
            Facet::App => &self.app,
            Facet::Policy => &self.policy,
            Facet::System => &self.system,
        };
        value.as_ref()
    }

    /// The same for a value of a facet.
    pub(crate) fn with(&self, facet: Facet, value: &str) -> Self {
        let mut narrowed = self.clone();
        let place = match facet {
            Facet::State => &mut narrowed.state,
            Facet::Contact => &mut narrowed.contact,
            Facet::Agent => &mut narrowed.agent,
            Facet::App => &mut narrowed.app,
            Facet::Policy => &mut narrowed.policy,
            Facet::System => &mut narrowed.system,
        };
        *place = Some(value.to_owned());
        narrowed
    }

    /// What selects the devices, from `FROM` on: `d` is the device, `r` what is known of it. `also`: what else is
    /// joined.
    pub(crate) fn sql(&self, at: At, also: &str) -> String {
        // Numbers of ours; what comes from elsewhere is a parameter.
        let moment = at.moment.to_string();
        let mut sql = format!("FROM report r JOIN device d ON d.number = r.device {also} WHERE ");
        if at.is_now {
            // Whatever the clock of this server was when it came.
            sql += "r.until_at = 9223372036854775807";
        } else {
            sql.extend(["r.from_at <= ", &moment, " AND r.until_at > ", &moment]);
        }
        for facet in Facet::ALL {
            if self.value(facet).is_some() {
                sql.extend([" AND ", &facet.expression(at), " = ?"]);
            }
        }
        if self.problem.is_some() {
            sql += " AND EXISTS (SELECT 1 FROM problem p WHERE p.report = r.number AND p.code = ?)";
        }
        if self.search.is_some() {
            sql += " AND instr(lower(d.id), lower(?)) > 0";
        }
        if self.conflict.is_some() {
            sql.extend([" AND d.conflict_from <= ", &moment, " AND d.conflict_until > ", &moment]);
        }
        sql
    }

    /// The parameters of [`Self::sql`].
    pub(crate) fn parameters(&self) -> Vec<&String> {
        let facets = Facet::ALL.into_iter().filter_map(|facet| self.value(facet));
        facets.chain(&self.problem).chain(&self.search).collect()
    }

    /// The address of the list with this filter.
    pub(crate) fn link(&self, page: &str) -> String {
        let query = self.query();
        if query.is_empty() { page.to_owned() } else { format!("{page}?{query}") }
    }

    /// As the query of an address.
    pub(crate) fn query(&self) -> String {
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(self.fields()).finish()
    }

    /// What it asks for, by name.
    pub(crate) fn fields(&self) -> Vec<(&'static str, String)> {
        let named = Facet::ALL.map(|facet| (facet.name(), self.value(facet)));
        let others = [
            ("problem", self.problem.as_ref()),
            ("search", self.search.as_ref()),
            ("conflict", self.conflict.as_ref()),
            ("at", self.at.as_ref()),
        ];
        let all = named.into_iter().chain(others);
        all.filter_map(|(name, value)| Some((name, value?.clone()))).collect()
    }
}
