"""The public test suite for Jupyter kernels, with every one of its samples set."""

import os

import jupyter_kernel_test
import pytest


@pytest.fixture(scope="module", autouse=True)
def own_history(tmp_path_factory, kernelspec):
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    os.environ.pop("XDG_STATE_HOME") if before is None else os.environ.update(XDG_STATE_HOME=before)


class TestKernel(jupyter_kernel_test.KernelTests):
    kernel_name = "skep"
    language_name = "rust"
    file_extension = ".rs"
    code_hello_world = 'println!("hello, world")'
    code_stderr = 'eprintln!("oops")'
    completion_samples = [{"text": ":var", "matches": {":vars"}}, {"text": "Fra", "matches": {"Frame"}}]
    complete_code_samples = ["1 + 1", "fn f() {}", ":vars", ":dep x", "let s = \"a\";", "%%time\n1"]
    incomplete_code_samples = ["fn f() {", "let x =", "\"abc", "/* a", "foo(", "%%sql", ":time f("]
    invalid_code_samples = [")", "let 1x = ;", "}"]
    code_page_something = "?:time"
    code_generate_error = "let x: i32 = \"no\";"
    code_execute_result = [
        {"code": "1 + 2", "result": "3"},
        {"code": "\"héllo\"", "result": "\"héllo\""},
        {"code": "df!(\"a\" => [1])?", "mime": "text/html"},
        {"code": "fn one() -> i64 { 1 } delayed!(one()).graph()", "mime": "image/svg+xml"},
    ]
    code_display_data = [{"code": "display(1);", "mime": "text/plain"}, {"code": "display(df!(\"a\" => [1])?);", "mime": "text/html"}]
    code_history_pattern = "1 + 2*"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = ":time"
    code_clear_output = "clear_output(true)"


class TestWelcome(jupyter_kernel_test.IopubWelcomeTests):
    kernel_name = "skep"
    support_iopub_welcome = True


# Imported classes are not tests of this module.
del jupyter_kernel_test


def test_nothing_is_skipped():
    """Each test of the suite skips itself unless its sample is set."""
    samples = [name for name in dir(TestKernel) if name.startswith(("code_", "completion_", "complete_", "incomplete_", "invalid_", "supported_", "language_", "file_"))]
    assert len(samples) >= 16
    assert all(getattr(TestKernel, name) for name in samples), [name for name in samples if not getattr(TestKernel, name)]
