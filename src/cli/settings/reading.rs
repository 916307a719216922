//! The precedence of a value's places: the flag, then the environment, then `.env`, then the default.
//!
//! Invariant: every value that is wrong is noted and reading goes on, so that all errors are reported together.

use std::env::VarError;

use zeroize::Zeroizing;

use super::dotenv::{DotEnv, DotEnvError};
use super::draft::Draft;
use super::error::{SettingError, ValueSource};
use super::setting::Setting;
use super::written::WrittenFlags;
use crate::config::Expected;

/// The value that a setting has, for `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    pub flag: &'static str,
    pub value: String,
    pub source: ValueSource,
}

/// The environment as a function, so that tests need not change the process's.
pub type Environment<'a> = dyn Fn(&str) -> Result<String, VarError> + 'a;

/// Reads settings one by one and collects their values and what is wrong with them.
pub struct Reading<'a> {
    written: &'a WrittenFlags,
    environment: &'a Environment<'a>,
    dotenv: DotEnv,
    pub effective: Vec<EffectiveSetting>,
    pub errors: Vec<SettingError>,
}

impl<'a> Reading<'a> {
    pub fn new(
        written: &'a WrittenFlags,
        environment: &'a Environment<'a>,
        dotenv: Result<DotEnv, DotEnvError>,
    ) -> Self {
        let (dotenv, errors) = match dotenv {
            Ok(dotenv) => (dotenv, Vec::new()),
            Err(error) => (DotEnv::default(), vec![SettingError::DotEnv(error)]),
        };
        Reading { written, environment, dotenv, effective: Vec::new(), errors }
    }

    /// Reads a setting into the draft, where its default stands until then. One that a rule reads is left alone.
    pub fn read(&mut self, setting: &Setting, draft: &mut Draft) {
        let Some(form) = setting.form else { return };
        let mut source = ValueSource::Default;
        if let Some((text, written_in)) = self.pick(setting) {
            source = written_in;
            if let Err(expected) = form.read(draft, &text) {
                return self.refuse(source, expected);
            }
        }
        let value = form.show(draft).unwrap_or_else(|| setting.default.to_owned());
        self.note(setting.flag, value, source);
    }

    /// Notes the value that a setting has.
    pub fn note(&mut self, flag: &'static str, value: String, source: ValueSource) {
        self.effective.push(EffectiveSetting { flag, value, source });
    }

    /// Notes a value of the wrong form.
    pub fn refuse(&mut self, source: ValueSource, expected: Expected) {
        self.errors.push(SettingError::Value { source, expected });
    }

    /// Notes a rule between settings that is broken.
    pub fn conflict(&mut self, source: ValueSource, rule: &'static str) {
        self.errors.push(SettingError::Conflict { source, rule });
    }

    /// The place that the value of a setting comes from; `None` where the value is wrong.
    pub fn source(&self, flag: &str) -> Option<ValueSource> {
        self.effective.iter().find(|setting| setting.flag == flag).map(|setting| setting.source)
    }

    /// The text of a setting and its place; blank values count as unset.
    pub fn pick(&mut self, setting: &Setting) -> Option<Picked> {
        let by_flag = self.pick_flag(setting.flag);
        let by_old_flag = setting.old_flag.and_then(|flag| self.pick_flag(flag));
        if let (Some(old_flag), Some(_), Some(_)) = (setting.old_flag, &by_flag, &by_old_flag) {
            self.errors.push(SettingError::TwoNames { old_flag, flag: setting.flag });
        }
        by_old_flag.or(by_flag).or_else(|| self.pick_variable(&[setting.variable?]))
    }

    /// As [`Self::pick`], of the command line alone.
    pub fn pick_flag(&self, flag: &'static str) -> Option<Picked> {
        let text = self.written.value(flag).map(Zeroizing::new)?;
        tidy(&text).map(|text| (text, ValueSource::Flag(flag)))
    }

    /// As [`Self::pick`], of names that stand for the same; in each place the first that is not blank counts.
    pub fn pick_variable(&mut self, variables: &[&'static str]) -> Option<Picked> {
        for variable in variables {
            match (self.environment)(variable) {
                Ok(text) => {
                    if let Some(text) = tidy(&Zeroizing::new(text)) {
                        return Some((text, ValueSource::Environment(variable)));
                    }
                }
                Err(VarError::NotPresent) => {}
                Err(VarError::NotUnicode(_)) => {
                    self.errors.push(SettingError::NotUtf8 { variable });
                    return None;
                }
            }
        }
        variables.iter().find_map(|variable| {
            let (text, line) = self.dotenv.find(variable)?;
            tidy(text).map(|text| (text, ValueSource::DotEnv { variable, line }))
        })
    }
}

/// A text with its place. It may be a secret, so it is erased.
pub type Picked = (Zeroizing<String>, ValueSource);

fn tidy(text: &str) -> Option<Zeroizing<String>> {
    Some(Zeroizing::new(text.trim().to_owned())).filter(|text| !text.is_empty())
}
