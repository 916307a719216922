//! One row of the table of settings: the names of a setting, its default, its help, and the form of its value.

use super::form::Form;

/// A setting. Flags, help, `check`, the table in the README and `.env.example` follow from its row.
#[derive(Clone, Copy)]
pub struct Setting {
    /// The flag, or the name that stands for it in `check` where there is none.
    pub flag: &'static str,
    /// `false`: only the variable sets it.
    pub has_flag: bool,
    /// An older name of the flag, which still works.
    pub old_flag: Option<&'static str>,
    /// The environment variable, which may stand in `.env` too.
    pub variable: Option<&'static str>,
    /// `false`: the flag is a switch.
    pub takes_value: bool,
    /// The flag may be repeated; the variable separates the values by commas.
    pub may_repeat: bool,
    pub help: &'static str,
    /// The default, as a value or in words.
    pub default: &'static str,
    /// The value in `.env.example`; `None`: the default, which then has to be a value.
    pub example: Option<&'static str>,
    pub rank: SettingRank,
    /// The value is the path of something; `None`: it is none.
    pub(super) path: Option<PathKind>,
    /// The form of the value; `None`: a rule of its own reads it, since it depends on other settings or is secret.
    pub(super) form: Option<&'static dyn Form>,
}

/// The place of a setting in `.env.example`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettingRank {
    /// Among the first lines, switched on.
    Basic,
    /// Further down, as a comment.
    Further,
    /// Accepted for old set-ups and not recommended by an example.
    Obsolete,
}

/// The kind of file that a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    File,
    Directory,
}

/// The values that a shell offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    Nothing,
    Words(Vec<&'static str>),
    Path(PathKind),
}

impl Setting {
    /// The base of every row: a flag that takes a value.
    pub(super) const ROW: Setting = Setting {
        flag: "",
        has_flag: true,
        old_flag: None,
        variable: None,
        takes_value: true,
        may_repeat: false,
        help: "",
        default: "",
        example: None,
        rank: SettingRank::Further,
        path: None,
        form: None,
    };
    /// The base of a switch, which only the command line can set.
    pub(super) const SWITCH: Setting = Setting { takes_value: false, default: "off", ..Setting::ROW };

    /// The help text with the default and the variable: `seconds …; default 10 [FLOW_PROXY_…]`.
    pub fn description(&self) -> String {
        let default = if self.takes_value { format!("; default {}", self.default) } else { String::new() };
        let variable = self.variable.map_or(String::new(), |variable| format!(" [{variable}]"));
        format!("{}{default}{variable}", self.help)
    }

    /// Returns what a shell offers for the value.
    pub fn completion(&self) -> Completion {
        match (self.path, self.form.map_or_else(Vec::new, |form| form.words())) {
            (Some(kind), _) => Completion::Path(kind),
            (None, words) if words.is_empty() => Completion::Nothing,
            (None, words) => Completion::Words(words),
        }
    }

    /// Returns the spelling of the flag, new or old, that is this name.
    pub fn flag_named(&self, name: &str) -> Option<&'static str> {
        [Some(self.flag), self.old_flag].into_iter().flatten().find(|flag| self.has_flag && *flag == name)
    }
}
