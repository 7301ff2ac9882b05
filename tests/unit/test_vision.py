import subprocess
import sys

import torch


def test_torchvision_imports_in_a_fresh_process_and_its_models_and_transforms_work():
    code = (
        "from pipeline.vision import torchvision; import torch; from torchvision.transforms import v2\n"
        "network = torchvision.models.resnet18(num_classes=3).eval()\n"
        "image = v2.Resize(32)(torch.zeros(1, 3, 40, 40))\n"
        "print(tuple(network(image).shape))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 3)\n"


def test_operators_are_declared_only_where_the_compiled_ones_do_not_load():
    from pipeline.vision import declare_missing_operators

    before = declare_missing_operators()
    assert declare_missing_operators() is before  # and a second call does no harm
    compiled = torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::nms", "CPU")
    assert before is not compiled
