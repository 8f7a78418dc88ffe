//! Which statements are let in: questions, each of a size that can be planned.

use datafusion::common::{DataFusionError, plan_err};
use datafusion::error::Result as DfResult;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Sql;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::error::{Error, Result};

use super::{SQL_OPERATORS_MAX, SQL_ROWS_MAX, SQL_TEXT_BYTES_MAX, SQL_TOKENS_MAX};

/// What a statement wants.
pub enum Wanted {
    /// The answer to this.
    Answer(Box<Statement>),
    /// The tables.
    Tables,
}

/// Refuses what is too large to be planned.
pub fn check_size(query: &super::Sql) -> Result<()> {
    let (text, limit) = (&query.sql, query.limit.unwrap_or(0));
    if text.len() > SQL_TEXT_BYTES_MAX {
        return Err(Error::TooLarge {
            what: "query".into(),
            bytes: text.len() as u64,
            max: SQL_TEXT_BYTES_MAX as u64,
        });
    }
    if limit > SQL_ROWS_MAX {
        return Err(Error::BadRequest(format!("limit {limit} exceeds {SQL_ROWS_MAX} rows")));
    }
    let tokens = Tokenizer::new(&GenericDialect, text).tokenize();
    let tokens = tokens.map_err(|e| Error::BadRequest(format!("sql: {e}")))?;
    let words = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count();
    let operators = tokens.iter().filter(|token| is_operator(token)).count();
    match words {
        0 => Err(Error::BadRequest("sql: the query is empty; write SELECT …".into())),
        _ if words > SQL_TOKENS_MAX => Err(Error::BadRequest(format!(
            "sql: the query has {words} words and signs, {SQL_TOKENS_MAX} are the most; \
             put long lists of values into a table and join it"
        ))),
        _ if operators > SQL_OPERATORS_MAX => Err(Error::BadRequest(format!(
            "sql: the query has {operators} operators, {SQL_OPERATORS_MAX} are the most; \
             write x IN (…) for x = … OR x = …"
        ))),
        _ => Ok(()),
    }
}

/// True if a token makes an expression deeper. Parentheses and functions do as well, and the parser
/// bounds those.
fn is_operator(token: &Token) -> bool {
    const WORDS: &[&str] =
        &["IS", "NOT", "LIKE", "ILIKE", "SIMILAR", "RLIKE", "REGEXP", "BETWEEN", "COLLATE", "AT"];
    match token {
        Token::Word(word) => WORDS.iter().any(|w| word.value.eq_ignore_ascii_case(w)),
        Token::Whitespace(_)
        | Token::Number(..)
        | Token::Char(_)
        | Token::SingleQuotedString(_)
        | Token::HexStringLiteral(_)
        | Token::Comma
        | Token::LParen
        | Token::RParen
        | Token::Period
        | Token::SemiColon => false,
        _ => true,
    }
}

/// Lets questions in.
pub fn check(statement: Statement) -> DfResult<Wanted> {
    match &statement {
        Statement::Statement(inner) => match &**inner {
            Sql::ShowTables { .. } => return Ok(Wanted::Tables),
            Sql::Query(_) | Sql::ShowColumns { .. } | Sql::ExplainTable { .. } => {}
            Sql::Explain { statement, .. } if matches!(**statement, Sql::Query(_)) => {}
            _ => return refused(&statement),
        },
        Statement::Explain(explain) => match &*explain.statement {
            Statement::Statement(inner) if matches!(**inner, Sql::Query(_)) => {}
            _ => return refused(&statement),
        },
        _ => return refused(&statement),
    }
    Ok(Wanted::Answer(Box::new(statement)))
}

fn refused(statement: &Statement) -> DfResult<Wanted> {
    let text = statement.to_string();
    let verb = text.split_whitespace().next().unwrap_or("this").to_uppercase();
    plan_err!(
        "{verb} is not for SQL here: only SELECT, EXPLAIN, DESCRIBE, SHOW TABLES and SHOW COLUMNS; \
         rows are changed by put, patch, delete, increment and commit, tables by the app's manifest"
    )
}

/// The one statement of a text.
pub fn only_one(mut statements: std::collections::VecDeque<Statement>) -> DfResult<Statement> {
    let more = statements.len() > 1;
    match statements.pop_front() {
        Some(statement) if !more => Ok(statement),
        Some(_) => plan_err!("there are several statements; send one at a time"),
        None => Err(DataFusionError::Plan("the query is empty; write SELECT …".into())),
    }
}
