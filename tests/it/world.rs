//! A tree for a test: started on ephemeral ports in a folder of its own, stopped when dropped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bus::Bus;
use edgescale::context::Context;
use edgescale::node::client;
use edgescale::node::report::Report;
use edgescale::tree::{DEMO_SITES, LinkVia, Plan, Tree};
use edgescale::upload;
use tempfile::TempDir;

/// The longest that anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running tree and connections to its sites.
pub struct World {
    pub tree: Tree,
    pub context: Context,
    buses: BTreeMap<String, Bus>,
    /// Removed after the tree has stopped.
    _folder: TempDir,
}

impl World {
    /// The tree of the demo.
    pub async fn start() -> Result<Self> {
        Self::start_with(&DEMO_SITES, []).await
    }

    /// Any tree, with ways round for some links.
    pub async fn start_with<const N: usize>(
        sites: &[&str],
        links: [(&str, LinkVia); N],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let sites = sites.iter().map(|site| site.parse()).collect::<Result<Vec<_>, _>>()?;
        let links = links.into_iter().map(|(site, via)| Ok((site.parse()?, via)));
        let plan = Plan {
            sites,
            dir: folder.path().to_owned(),
            tools: tools(),
            node_binary: binary(),
            links: links.collect::<Result<_>>()?,
        };
        let tree = Tree::start(&plan).await?;
        let context = tree.context();
        let mut buses = BTreeMap::new();
        for site in &context.sites {
            buses.insert(site.path.to_string(), site.connect().await?);
        }
        Ok(Self { tree, context, buses, _folder: folder })
    }

    /// The connection to a site.
    pub fn bus(&self, site: &str) -> &Bus {
        &self.buses[site]
    }

    /// Everything about a site's node.
    pub async fn report(&self, site: &str) -> Result<Report> {
        client::report(self.bus(site)).await
    }

    /// A count of a site's node.
    pub async fn count(&self, site: &str, name: &str) -> Result<u64> {
        Ok(self.report(site).await?.metrics.counts.get(name).copied().unwrap_or(0))
    }

    /// Uploads code from memory and applies a manifest in which `{name}` stands for its digest.
    pub async fn apply(&self, manifest: &str, code: &[(&str, Vec<u8>)]) -> Result<()> {
        let root = self.bus(DEMO_SITES[0]);
        let registry = bus::Registry::open(root).await?;
        let mut manifest = manifest.to_owned();
        for (name, bytes) in code {
            let digest = ::handlers::Digest::of(bytes);
            registry.put_code(digest.as_str(), bytes.clone().into()).await?;
            manifest = manifest.replace(&format!("{{{name}}}"), digest.as_str());
        }
        upload::apply(root, &manifest).await.map(|_| ())
    }

    /// Registers the example app.
    pub async fn deploy_doorcam(&self) -> Result<()> {
        let manifest = root().join("examples/doorcam/app.toml");
        upload::deploy(self.bus(DEMO_SITES[0]), &manifest).await.map(|_| ())
    }
}

/// Waits until `probe` gives something; says what for when it never does.
pub async fn eventually<T, F>(what: &str, mut probe: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        let last = probe().await;
        if let Ok(Some(found)) = last {
            return Ok(found);
        }
        if Instant::now() > deadline {
            last.with_context(|| format!("waiting for {what}"))?;
            bail!("waited {} s in vain for {what}", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a count is `wanted`, for as long as it grows; says how far it came.
pub async fn grows_to(wanted: u64, count: impl Fn() -> Result<u64>) -> Result<u64> {
    let (mut last, mut grew) = (0, Instant::now());
    loop {
        let now = count()?;
        if now > last {
            (last, grew) = (now, Instant::now());
        }
        if last >= wanted || grew.elapsed() > PATIENCE {
            return Ok(last);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The checkout.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The program under test.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_edgescale"))
}

/// The project's tools.
pub fn tools() -> PathBuf {
    std::env::var_os("EDGESCALE_TOOLS").map_or_else(|| root().join(".tools"), PathBuf::from)
}

/// The sample video; without it a test is skipped aloud.
pub fn clip() -> Option<PathBuf> {
    let clip = tools().join("clips/bigbuckbunny.mp4");
    present(&clip, "the sample video; run ./tools.sh test")
}

/// The built example; without it a test is skipped aloud.
pub fn doorcam() -> Option<PathBuf> {
    let component = root().join("examples/doorcam/motion.wasm");
    present(&component, "the example's component; run examples/doorcam/build.sh")
}

fn present(file: &Path, what: &str) -> Option<PathBuf> {
    if file.is_file() {
        return Some(file.to_owned());
    }
    aloud::skipped!("{} is not there: {what}", file.display());
    None
}
