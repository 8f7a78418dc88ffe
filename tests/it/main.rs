//! The one integration binary: whole trees of real servers and real nodes, and the house rules.

mod bodies;
mod cli;
mod cron;
mod delivery;
mod develop;
mod doors;
mod fault;
mod faults;
mod fuzz;
mod gateway;
mod handlers;
mod leaf;
mod order;
mod proxy;
mod road;
mod security;
mod spill;
mod streamed;
mod tenants;
mod tidy;
mod trace;
mod tree;
mod video;
mod world;
