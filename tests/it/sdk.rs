//! The daemon driven by programs that nobody here wrote: the OpenAI Python SDK in front, llama.cpp's server behind.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Sets up a virtual environment under `tests/.cache`, starts what it needs, and says what passed. Without PyPI it says
/// so loudly and is skipped, unless DEMUXAI_SDK_REQUIRED is set.
#[test]
fn the_openai_sdk_and_a_real_server_work_through_the_daemon() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk/run.sh");
    let output = Command::new("bash")
        .arg(script)
        .env("DEMUXAI", env!("CARGO_BIN_EXE_demuxai"))
        .output()
        .expect("bash runs the SDK test");
    let said = String::from_utf8_lossy(&output.stdout);
    // Past the capture of the tests' output, or a skipped test would be a silent one.
    let _ = writeln!(std::io::stderr(), "{said}");
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}
