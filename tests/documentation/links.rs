//! Links between pages and to files.

use std::path::{Component, Path, PathBuf};

use super::pages::{Page, root};

#[test]
fn relative_links_lead_to_files_and_headings_that_exist() {
    let pages = Page::all();
    let mut broken = Vec::new();
    let mut count = 0;
    for page in &pages {
        for (number, target) in links(page) {
            count += 1;
            if let Some(why) = why_broken(&pages, page, target) {
                broken.push(format!("{}:{number}: {target}: {why}", page.path.display()));
            }
        }
    }
    assert!(count > 50, "only {count} relative links were found");
    assert!(broken.is_empty(), "broken links:\n  {}", broken.join("\n  "));
}

#[test]
fn every_guide_is_linked_from_the_entry_page_of_its_language_and_from_its_translation() {
    let entries = [Page::named("README.md"), Page::named("README.zh-CN.md")];
    let guides: Vec<_> = Page::pairs().into_iter().filter(|(page, _)| page.path.starts_with("docs")).collect();
    assert!(guides.len() >= 5, "only {} guides have a translation", guides.len());
    for (original, translation) in &guides {
        for (page, entry, other) in [(original, &entries[0], translation), (translation, &entries[1], original)] {
            let path = page.path.to_str().expect("a readable path");
            assert!(leads_to(entry, path), "{} does not link {path}", entry.path.display());
            let other = other.path.file_name().and_then(|name| name.to_str()).expect("a readable name");
            assert!(leads_to(page, other), "{path} does not link {other}");
        }
    }
}

fn leads_to(page: &Page, target: &str) -> bool {
    links(page).iter().any(|(_, link)| link.split('#').next() == Some(target))
}

/// The targets of relative links in prose, with their lines.
fn links(page: &Page) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    for (number, line) in page.prose() {
        for part in line.split("](").skip(1) {
            let target = part.split(')').next().unwrap_or_default();
            if !target.contains("://") {
                links.push((number, target));
            }
        }
    }
    links
}

fn why_broken(pages: &[Page], page: &Page, target: &str) -> Option<String> {
    let (file, heading) = target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
    let path = if file.is_empty() { page.path.clone() } else { normal(&page.path.parent()?.join(file)) };
    if !root().join(&path).exists() {
        return Some("no such file".into());
    }
    let heading = heading?;
    let Some(other) = pages.iter().find(|other| other.path == path) else { return Some("no page".into()) };
    let is_found = other.headings().iter().any(|(_, anchor)| anchor == heading);
    (!is_found).then(|| "no such heading".into())
}

/// `docs/../README.md` is `README.md`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            other => normal.push(other),
        }
    }
    normal
}
