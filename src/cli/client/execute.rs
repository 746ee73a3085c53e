//! `lucid execute`: sends a query to the databases of a node.

use std::io::Read;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Map, Value};

use super::NodeArgs;
use super::api_key::send;
use super::node::Node;
use super::output::show_lines;
use crate::api::databases::query;
use crate::cli::failure::{Exit, Failure};
use crate::limits::QUERY_BYTES_MAX;

/// Arguments of `lucid execute`.
#[derive(Args, Debug)]
pub struct ExecuteArgs {
    /// The query: all of it as one argument, or its words, which get their quotes then; - reads it from
    /// stdin
    #[arg(value_name = "QUERY", required = true, allow_negative_numbers = true)]
    query: Vec<String>,
    #[command(flatten)]
    node: NodeArgs,
}

/// Sends the query and shows the answer.
pub fn run(args: &ExecuteArgs) -> Result<ExitCode, Failure> {
    let query = query(&args.query)?;
    let node = Node::with_password(&args.node)?;
    let order = Value::from(Map::from_iter([("query".into(), query.into())]));
    let answer = send(&node, "POST", "/execute", Some(&order))?;
    match answer.status() {
        200 => show_lines(answer.into_reader())?,
        _ => return Err(answer.refusal(&node, None)),
    }
    Ok(ExitCode::SUCCESS)
}

/// The query that is typed.
fn query(words: &[String]) -> Result<String, Failure> {
    match words {
        [dash] if dash == "-" => {
            let mut bytes = Vec::new();
            let most = QUERY_BYTES_MAX as u64 + 1;
            let read = std::io::stdin().lock().take(most).read_to_end(&mut bytes);
            read.map_err(|error| Failure::of_io(&error, "cannot read the query"))?;
            String::from_utf8(bytes).map_err(|_| Failure::new(Exit::Usage, "the query is not UTF-8"))
        }
        [whole] => Ok(whole.clone()),
        words => Ok(words.iter().map(|word| query::argument(word)).collect::<Vec<_>>().join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::query;

    #[test]
    fn one_argument_is_the_query_and_several_are_its_words() {
        let words = |words: &[&str]| query(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["GET 'a b' c"]).unwrap(), "GET 'a b' c");
        assert_eq!(words(&["GET", "a b", "it's", "", "None"]).unwrap(), "GET \"a b\" \"it's\" \"\" None");
    }
}
