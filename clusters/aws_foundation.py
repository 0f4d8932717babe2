"""Makes once, by name and again without harm, what cluster.yaml refers to on AWS: a security group
that only your address can reach by SSH, a shared file system, and the head's few rights; with
--bucket, the rights of head and workers in one bucket.

python clusters/aws_foundation.py --region us-west-2 --ssh-from 203.0.113.7/32
python clusters/aws_foundation.py --region us-west-2 --delete     # with all that is stored there
"""

import argparse
import ipaddress
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.exceptions import ClientError

NAME = "sweep"
HEAD, WORKER = "sweep-head", "sweep-worker"
TAGS = [{"Key": "project", "Value": NAME}]
IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
OURS = {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": NAME}}
HEAD_RIGHTS = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["ec2:Describe*", "ec2:RunInstances"], "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": "ec2:CreateTags",
            "Resource": "*",
            "Condition": {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        },
        {
            "Effect": "Allow",
            "Action": ["ec2:CreateTags", "ec2:TerminateInstances"],
            "Resource": "arn:aws:ec2:*:*:instance/*",
            "Condition": OURS,
        },
    ],
}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--region", required=True)
    parser.add_argument("--ssh-from", type=ipaddress.ip_network, metavar="CIDR")
    parser.add_argument(
        "--bucket", help="an S3 bucket of yours for checkpoints: the nodes may read and write there"
    )
    parser.add_argument(
        "--delete", action="store_true", help="remove everything but the bucket, data included"
    )
    return parser


def find_subnets(ec2: Any) -> list[dict[str, Any]]:
    """Return the default network's subnets, by zone."""
    filters = [{"Name": "default-for-az", "Values": ["true"]}]
    found = ec2.describe_subnets(Filters=filters)["Subnets"]
    if not found:
        raise SystemExit("this region has no default VPC; make one: aws ec2 create-default-vpc")
    return sorted(found, key=lambda subnet: subnet["AvailabilityZone"])


def find_group(ec2: Any, vpc: str) -> str | None:
    """Return the id of the security group, if it is there."""
    filters = [{"Name": "group-name", "Values": [NAME]}, {"Name": "vpc-id", "Values": [vpc]}]
    found = ec2.describe_security_groups(Filters=filters)["SecurityGroups"]
    return found[0]["GroupId"] if found else None


def make_group(ec2: Any, vpc: str, ssh_from: str) -> str:
    """Return the id of a security group that lets in its own members, and SSH from one range."""
    group = find_group(ec2, vpc)
    if group is None:
        made = ec2.create_security_group(
            GroupName=NAME,
            Description="sweep: its own members, and SSH from one address range",
            VpcId=vpc,
            TagSpecifications=[{"ResourceType": "security-group", "Tags": TAGS}],
        )
        group = str(made["GroupId"])
    inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ssh_from}]}
    old = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"]
    if old:
        # Your address may have changed: the old door is shut.
        ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=old)
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[inside, ssh])
    return group


def find_files(efs: Any) -> str | None:
    """Return the id of the file system, if it is there."""
    found = efs.describe_file_systems(CreationToken=NAME)["FileSystems"]
    return found[0]["FileSystemId"] if found else None


def make_files(efs: Any, subnets: list[dict[str, Any]], group: str) -> str:
    """Return the id of an encrypted file system that every zone can mount."""
    files = find_files(efs)
    if files is None:
        made = efs.create_file_system(
            CreationToken=NAME, Encrypted=True, ThroughputMode="elastic", Tags=TAGS
        )
        files = str(made["FileSystemId"])
    wait_until(lambda: state_of(efs, files) == "available", "the file system")
    targets = efs.describe_mount_targets(FileSystemId=files)["MountTargets"]
    have = {target["SubnetId"] for target in targets}
    for subnet in subnets:
        if subnet["SubnetId"] not in have:
            efs.create_mount_target(
                FileSystemId=files, SubnetId=subnet["SubnetId"], SecurityGroups=[group]
            )
    return files


def state_of(efs: Any, files: str) -> str:
    """Return the life cycle state of the file system."""
    found = efs.describe_file_systems(FileSystemId=files)["FileSystems"]
    return str(found[0]["LifeCycleState"])


def wait_until(reached: Any, what: str, seconds: float = 300.0) -> None:
    """Return once ``reached()`` is true; end the command if that takes too long."""
    until = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > until:
            raise SystemExit(f"{what} is not ready after {seconds:g} seconds; run this again")
        time.sleep(2)


def make_role(iam: Any, name: str) -> str:
    """Make a role that a machine can have, and its profile of the same name; return its ARN."""
    with already("EntityAlreadyExists"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), Tags=TAGS)
    with already("EntityAlreadyExists"):
        iam.create_instance_profile(InstanceProfileName=name)
    with already("LimitExceeded"):
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return str(iam.get_role(RoleName=name)["Role"]["Arn"])


def make_head_role(iam: Any) -> None:
    """Give the head the right to start and end this cluster's machines, and no other."""
    make_role(iam, HEAD)
    iam.put_role_policy(RoleName=HEAD, PolicyName=HEAD, PolicyDocument=json.dumps(HEAD_RIGHTS))
    with already("InvalidInput", "EntityAlreadyExists"):
        # Without it an account's first spot request fails; the head may not make it.
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")


def open_bucket(iam: Any, bucket: str) -> None:
    """Let head and workers use one bucket, and the head give its workers the role for that."""
    place = f"arn:aws:s3:::{bucket}"
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    rights = [
        {"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetBucketLocation"], "Resource": place},
        {"Effect": "Allow", "Action": objects, "Resource": f"{place}/*"},
    ]
    role = make_role(iam, WORKER)
    to_machines = {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}
    passing = {"Action": "iam:PassRole", "Resource": role, "Condition": to_machines}
    for name, more in ((WORKER, []), (HEAD, [{"Effect": "Allow", **passing}])):
        policy = json.dumps({"Version": "2012-10-17", "Statement": [*rights, *more]})
        iam.put_role_policy(RoleName=name, PolicyName="sweep-bucket", PolicyDocument=policy)


@contextmanager
def already(*codes: str) -> Iterator[None]:
    """Pass over the errors of AWS that say that something is as it should be."""
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise


def find_image(ssm: Any) -> str:
    """Return today's id of the image, or the place to look for it."""
    try:
        return str(ssm.get_parameter(Name=IMAGE)["Parameter"]["Value"])
    except ClientError:
        return "ami-CHANGE-ME"


def make(region: str, ssh_from: str, bucket: str | None = None) -> str:
    """Make what is missing; return the lines for the top of cluster.yaml."""
    ec2, efs = boto3.client("ec2", region_name=region), boto3.client("efs", region_name=region)
    subnets = find_subnets(ec2)
    group = make_group(ec2, subnets[0]["VpcId"], ssh_from)
    files = make_files(efs, subnets, group)
    iam = boto3.client("iam", region_name=region)
    make_head_role(iam)
    if bucket:
        open_bucket(iam, bucket)
    image = find_image(boto3.client("ssm", region_name=region))
    zones = ",".join(subnet["AvailabilityZone"] for subnet in subnets)
    mount = f"NFS={files}.efs.{region}.amazonaws.com:/ bash ~/sweep/clusters/setup_node.sh"
    return "\n".join(
        [
            f"  region: &region {region}",
            f"  zones: &zones {zones}",
            f"  security_group: &security_group [{group}]",
            f"  image: &image {image}",
            "  setup: &setup",
            f"    - {mount}",
        ]
    )


def delete(region: str) -> None:
    """Remove all that ``make`` made. Machines of the cluster must be gone: ``ray down`` first."""
    ec2, efs = boto3.client("ec2", region_name=region), boto3.client("efs", region_name=region)
    files = find_files(efs)
    if files is not None:
        for target in efs.describe_mount_targets(FileSystemId=files)["MountTargets"]:
            efs.delete_mount_target(MountTargetId=target["MountTargetId"])
        wait_until(
            lambda: not efs.describe_mount_targets(FileSystemId=files)["MountTargets"],
            "the file system's removal",
        )
        efs.delete_file_system(FileSystemId=files)
    group = find_group(ec2, find_subnets(ec2)[0]["VpcId"])
    if group is not None:
        ec2.delete_security_group(GroupId=group)
    iam = boto3.client("iam", region_name=region)
    for role in (HEAD, WORKER):
        delete_role(iam, role)


def delete_role(iam: Any, name: str) -> None:
    """Remove what ``make_role`` made, with the rights that were given to it."""
    with already("NoSuchEntity"):
        iam.remove_role_from_instance_profile(InstanceProfileName=name, RoleName=name)
    with already("NoSuchEntity"):
        iam.delete_instance_profile(InstanceProfileName=name)
    with already("NoSuchEntity"):
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            iam.delete_role_policy(RoleName=name, PolicyName=policy)
        iam.delete_role(RoleName=name)


def main() -> None:
    """Run the command."""
    options = build_parser().parse_args()
    if options.delete:
        delete(options.region)
    elif options.ssh_from is None:
        raise SystemExit("--ssh-from is missing: your address, e.g. 203.0.113.7/32")
    else:
        print("put these lines at the top of cluster.yaml, in place of those marked (*):\n")
        print(make(options.region, str(options.ssh_from), options.bucket))


if __name__ == "__main__":
    main()
