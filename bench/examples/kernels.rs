//! Prints the kernel bench's table: `cargo run -p edgescale-bench --example kernels`.

fn main() -> Result<(), edgescale_bench::kernels::Error> {
    edgescale_bench::kernels::main(&edgescale_bench::kernels::Options::default())
}
