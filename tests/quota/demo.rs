//! The demo's upstream tells quotas, two of its credentials of one user.

use serde_json::json;

use crate::support::{Client, GET, Gateway};
use crate::wait_for_state;

#[test]
fn the_demo_tells_the_quotas_of_its_users() {
    let gateway = Gateway::builder().switch("demo").arg("--admin", "127.0.0.1:0").arg("--quota", "flow").start();
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    let state = wait_for_state(&gateway, |state| state["quota"]["users"].as_array().is_some_and(|all| all.len() == 2));
    let users = &state["quota"]["users"];
    assert_eq!((&users[0]["name"], &users[0]["credentials"]), (&json!("demo-user-1"), &json!(["alice", "bob"])));
    assert_eq!((&users[1]["name"], &users[1]["credentials"]), (&json!("demo-user-2"), &json!(["carol"])));
    assert_eq!((&users[0]["budget"]["limit"], &users[0]["is_blocked"]), (&json!(100.0), &json!(false)));
    assert!(users[0]["budget"]["renewal"].as_u64() > Some(state["now"].as_f64().unwrap_or_default() as u64));
}
