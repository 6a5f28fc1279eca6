"""Names that are used without being written in Python code. vulture reads this file; nothing imports it."""

# Factories: records name these classes as strings, "package.module:Class".
_.ASSD
_.MaskGenerator
_.NnunetModel
_.ThresholdModel
_.ExemplarGenerator
_.AnyOverlapF1
_.AnyOverlapPrecision
_.AnyOverlapRecall
_.AutoPET
_.BoxGenerator
_.BraTS
_.Btxrd
_.Ddti
_.CTNormalizer
_.CXRNormalizer
_.CbisDdsm
_.DeepLesion
_.DermoscopyNormalizer
_.Dice
_.DiceFocalLoss
_.DicomReader
_.DukeBreastMri
_.EndoscopyNormalizer
_.FLARE23
_.FalseNegativeVolume
_.FalsePositiveVolume
_.Generic
_.Hausdorff
_.HtmlTracker
_.IoU
_.Ircadb
_.JsonlTracker
_.Jsrt
_.KiTS23
_.LNDb
_.LesionF1
_.LesionPrecision
_.LesionRecall
_.LidcIdri
_.LiteMedSAM
_.MRINormalizer
_.MSDTask
_.MammographyNormalizer
_.MhaExporter
_.NSD
_.Neighbours
_.NiftiExporter
_.NrrdExporter
_.NsclcRadiomics
_.OpenSrh
_.PETNormalizer
_.PairedFiles
_.PanopticQuality
_.PictureFolders
_.PointGenerator
_.RTStructExporter
_.SRHNormalizer
_.Sam3Tiny
_.SegExporter
_.SegmentationQuality
_.Sensitivity
_.SiimAcr
_.TensorBoardTracker
_.TextGenerator
_.TotalSegmentator
_.UltrasoundNormalizer
_.VinDrCxr
_.VolumeDifference
_.WandbTracker
_.XRayNormalizer

# DICOM attributes: pydicom writes them.
_.ApprovalStatus
_.BitsStored
_.HighBit
_.ImageType
_.KVP
_.Manufacturer
_.PhotometricInterpretation
_.PositionReferenceIndicator
_.RTROIInterpretedType
_.RescaleIntercept
_.RescaleSlope
_.RescaleType
_.SamplesPerPixel
_.SeriesDescription
_.SliceThickness
_.SoftwareVersions
_.SpacingBetweenSlices
_.SpecificCharacterSet
_.StructureSetDescription
_.StructureSetLabel
_.StudyID
_.SegmentsOverlap

# SAM3: Meta's code calls or reads them.
_.__path__
_._bb_feat_sizes
_._encode_boxes
_.act_ckpt
_.attn_mask
_.constexpr
_.dac
_.forward_ffn
_.jit
_.sam2_convs
_.use_act_checkpoint
_.use_act_ckpt

# Values of command options: typer makes them from their names.
_.always
_.bf16
_.fp16
_.stretch
_.highest_score

# Fields written to JSON or read by name.
_.TC
_.about
_.box_giou
_.box_l1
_.ends_lps_mm
_.ends_pixels
_.intensities
_.n_rows
_.volume_ml

# Attributes that a library reads: warnings, rich.
_.formatwarning
_.justify

# Methods of a module loader, called by importlib.
_.get_data
_.get_filename
_.path_stats

# The package's interface: lazy names, and functions that the READMEs describe.
_.SelectMedicalChannels
_.__getattr__
_.brats_region
_.detect_coding
_.plane_points

# Functions of measurement scripts, called by name in a new process.
_.oncoseg
_.one_slice
_.rt_utils

# Not used any more.
_.Ring

# Called by mkdocstrings.
_.DocstringRoles
_.on_instance
_.yaml_implicit_resolvers  # read by PyYAML

# Called by Python's import system.

# Read by Meta's tracker in training.
_.teacher_force_obj_scores_for_mem
_.prob_to_dropout_spatial_mem

# Set so that an object behaves as another class.
_.__class__
_.should_exit  # read by uvicorn
# Fields of the server's replies, read by viewers.
_.spacing_mm
_.edited
_.propagated
_.diameter_slice
_.heartbeat  # of the client, for who holds a session open
# Settings of onnxruntime, read by it.
_.intra_op_num_threads
_.log_severity_level
# Attributes of DICOM objects and of pynetdicom's application entities.
_.ConversionType
_.DocumentTitle
_.BurnedInAnnotation
_.MIMETypeOfEncapsulatedDocument
_.QueryRetrieveLevel
_.require_called_aet
_.maximum_associations
_.acse_timeout
_.connection_timeout
_.dimse_timeout
_.network_timeout
_.row_factory  # read by sqlite3

# Scripts of measurements.
_.train_here
_.num_epochs
_.num_iterations_per_epoch
_.num_val_iterations_per_epoch

# napari's manifest names the class; the widget calls its methods by the names of their buttons.
_.OncoSegWidget
_._start
_._add
_._remove
_._propagate
_._retry
_._export
_._save
_._choose_series
_._restore
_._discard
_.undo
_.redo

# napari's manifest names them, and napari reads the attributes of its layers.
_.chest_ct
_.brain_mri
_.brain_mri_2
_.lung_ct
_.write_rtstruct
_.write_nifti
_.rotate
_.shear
_.orientation2d

# Called by OncoSeg.py, which vulture leaves out: Slicer calls it.
_.prompt_last_point
_.prompt_text
_.take_edits
