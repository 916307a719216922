use std::ffi::OsString;

use super::*;
use crate::cli::args;
use crate::cli::settings::testing::{Pair, errors, run};

/// The proxy as `check` lists it: the value, and where it is from.
fn found(words: &[&str], environment: &[Pair<'_>], dotenv: &str) -> (String, String) {
    let configured = run(words, environment, dotenv).unwrap_or_else(|errors| panic!("{words:?}: {errors}"));
    let finding = configured.effective.iter().find(|finding| finding.flag == FLAG).expect("a finding");
    let proxy = configured.config.upstream.proxy;
    assert_eq!(proxy.is_some(), finding.value.starts_with("http://"), "{finding:?}");
    assert!(proxy.is_none_or(|proxy| proxy.url() == finding.value && proxy.source == finding.source.to_string()));
    (finding.value.clone(), finding.source.to_string())
}

fn error(words: &[&str], environment: &[Pair<'_>], dotenv: &str) -> String {
    let errors = errors(words, environment, dotenv);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].clone()
}

fn owned((value, source): Pair<'_>) -> (String, String) {
    (value.to_owned(), source.to_owned())
}

#[test]
fn the_lower_case_name_wins_in_each_place_and_the_environment_wins_over_dotenv() {
    let (lower, upper) = (("https_proxy", "http://lower:1"), ("HTTPS_PROXY", "http://upper:1"));
    let from_lower = ("http://lower:1", "environment https_proxy");
    let from_upper = ("http://upper:1", "environment HTTPS_PROXY");
    let dotenv = "HTTPS_PROXY=http://u:hunter2@dot:1\nhttps_proxy=http://dot:2\n";
    for (environment, dotenv, expected) in [
        (&[][..], "", ("none", "default")),
        (&[lower, upper], "", from_lower),
        (&[upper], "", from_upper),
        (&[upper, ("https_proxy", " ")], "", from_upper),
        (&[upper], dotenv, from_upper),
        (&[], dotenv, ("http://dot:2", ".env line 2: https_proxy")),
        (&[], "HTTPS_PROXY=http://u:hunter2@dot:1", ("http://dot:1", ".env line 1: HTTPS_PROXY")),
        (
            &[("HTTP_PROXY", "http://a:1"), ("ALL_PROXY", "http://a:1"), ("all_proxy", "http://a:1")],
            "",
            ("none", "default"),
        ),
    ] {
        assert_eq!(found(&[], environment, dotenv), owned(expected), "{environment:?} {dotenv}");
    }
}

#[test]
fn no_proxy_names_exceptions_to_the_variables_and_not_to_the_flag() {
    let proxy = ("HTTPS_PROXY", "http://p:1");
    let used = ("http://p:1", "environment HTTPS_PROXY");
    let exception = "none, the upstream is an exception";
    for (words, no_proxy, expected) in [
        (&[][..], ("NO_PROXY", "other.com"), used),
        (&[], ("NO_PROXY", "ciandt.com"), (exception, "environment NO_PROXY")),
        (&[], ("no_proxy", ".ciandt.com:443"), (exception, "environment no_proxy")),
        (&[], ("no_proxy", ".ciandt.com:8443"), used),
        (&["--upstream-addr", "10.0.0.7:8443"], ("NO_PROXY", "10.0.0.0/8"), (exception, "environment NO_PROXY")),
        (&["--upstream-addr", "10.0.0.7:8443"], ("NO_PROXY", "ciandt.com"), (exception, "environment NO_PROXY")),
        (&["--upstream-addr", "11.0.0.7:8443"], ("NO_PROXY", "10.0.0.0/8"), used),
        (&["--upstream-proxy", "http://f:2"], ("NO_PROXY", "*"), ("http://f:2", "--upstream-proxy")),
    ] {
        assert_eq!(found(words, &[proxy, no_proxy], ""), owned(expected), "{words:?} {no_proxy:?}");
    }
    let both = [proxy, ("no_proxy", "other.com"), ("NO_PROXY", "*")];
    assert_eq!(found(&[], &both, ""), owned(used), "the lower-case name wins");
}

#[test]
fn variables_that_are_not_for_this_upstream_are_neither_used_nor_found_wrong() {
    for (words, reason) in [
        (&["--upstream", "https://localhost:1"][..], "none, the upstream is on this machine"),
        (&["--upstream-addr", "127.0.0.1:1"], "none, the upstream is on this machine"),
        (&["--upstream", "http://[::1]:1"], "none, HTTPS_PROXY is not for an http:// upstream"),
        (
            &["--upstream", "http://flow.lan", "--allow-plain-upstream"],
            "none, HTTPS_PROXY is not for an http:// upstream",
        ),
        #[cfg(feature = "demo")]
        (&["demo"], "none, the demo has its own upstream"),
    ] {
        for proxy in ["http://p:1", "socks5://p:1"] {
            assert_eq!(found(words, &[("HTTPS_PROXY", proxy)], ""), owned((reason, "default")), "{words:?}");
        }
    }
    let excepted = [("HTTPS_PROXY", "socks5://p:1"), ("NO_PROXY", "ciandt.com")];
    assert_eq!(found(&[], &excepted, "").1, "environment NO_PROXY");
}

#[test]
fn a_wrong_proxy_names_its_source_and_not_itself() {
    for bad in ["socks5://u:hunter2@p:1", "https://u:hunter2@p:1"] {
        let form = "expected a proxy that is spoken to by plain HTTP, http://[user:password@]host:port: https:// and \
                    socks5:// proxies are not supported";
        assert_eq!(error(&["--upstream-proxy", bad], &[], ""), format!("--upstream-proxy: {form}"));
        for variable in PROXY_VARIABLES {
            assert_eq!(error(&[], &[(variable, bad)], ""), format!("environment {variable}: {form}"));
            let dotenv = format!("\n{variable}={bad}");
            assert_eq!(error(&[], &[], &dotenv), format!(".env line 2: {variable}: {form}"));
        }
    }
    // Besides a wrong upstream too.
    assert_eq!(
        run(&["--upstream", "x", "--upstream-proxy", "hunter2"], &[("HTTPS_PROXY", "x")], "")
            .expect_err("both")
            .0
            .len(),
        2
    );
}

#[test]
fn a_proxy_that_is_this_gateway_itself_is_refused() {
    for (words, environment, is_refused) in [
        (&["--upstream-proxy", "http://127.0.0.1:8899"][..], &[][..], true),
        (&[], &[("HTTPS_PROXY", "http://localhost:8899")], true),
        (&["--host", "0.0.0.0", "--upstream-proxy", "http://[::1]:8899"], &[], true),
        (&["--host", "10.0.0.1", "--upstream-proxy", "http://10.0.0.1:8899"], &[], true),
        (&["--host", "10.0.0.1", "--upstream-proxy", "http://127.0.0.1:8899"], &[], false),
        (&["--upstream-proxy", "http://127.0.0.1:8898"], &[], false),
        (&["--upstream-proxy", "http://proxy.corp:8899"], &[], false),
    ] {
        let result = run(words, environment, "");
        assert_eq!(result.is_err(), is_refused, "{words:?} {environment:?}");
        if let Err(errors) = result {
            assert!(errors.to_string().contains("this gateway itself listens on"), "{errors}");
        }
    }
}

#[test]
fn a_plain_upstream_of_this_machine_leaks_through_a_proxy_elsewhere() {
    let through = |proxy| run(&["--upstream", "http://localhost:1", "--upstream-proxy", proxy], &[], "");
    assert!(through("http://proxy.corp:3128").is_err());
    assert!(through("http://127.0.0.1:3128").is_ok());
}

#[test]
fn no_debug_output_holds_the_password() {
    let words = ["--upstream-proxy", "http://ann:hunter2@proxy.corp:3128"];
    let args = args::parse(words.iter().map(OsString::from)).expect("a valid command line");
    let configured = run(&words, &[], "").expect("valid");
    for debugged in [format!("{args:?}"), format!("{configured:?}")] {
        // In base64, "ann:hunter2" is this.
        assert!(!debugged.contains("hunter2") && !debugged.contains("YW5uOmh1bnRlcjI"), "{debugged}");
    }
}
